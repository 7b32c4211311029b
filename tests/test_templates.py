"""Chat templates: the same text as transformers makes, and an end in good time for the hostile ones."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from limited import outcome
from transformers.utils.chat_template_utils import render_jinja_template

from vitruvius.checkpoints.templates import ChatTemplate, render
from vitruvius.checkpoints.templates.allowance import ALLOWANCE, MOST, SHARE
from vitruvius.checkpoints.templates.sandbox import Sandbox
from vitruvius.errors import InputError, InputWarning

HI = [{"role": "user", "content": "Hi"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a <city> & more 🌦",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
LONG = [
    {"role": "system", "content": "  Be brief.\nAlways. "},
    {"role": "user", "content": "What is 1+1? <b>ünïcödé</b> 🦙"},
    {"role": "assistant", "content": "<think>\nhmm\n</think>\n\n2 "},
    {
        "role": "user",
        "content": [{"type": "text", "text": "And "}, {"type": "image"}, {"type": "text", "text": "this?"}],
    },
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "abcdefghi", "function": {"name": "weather", "arguments": {"city": "Zürich", "n": [1, None]}}}
        ],
    },
    {"role": "tool", "tool_call_id": "abcdefghi", "content": "sunny"},
    {"role": "user", "content": "\n1\n2"},
]
TEXT_ONLY = [
    message
    for message in LONG
    if message["role"] != "tool" and message["content"] and isinstance(message["content"], str)
]

# Each in the manner of a family of real templates, with the constructs that family needs.
TEMPLATES = {
    "chatml": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
        "You are helpful<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
        "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "alternating": """{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' + (system_message ~ '\n\n' if loop.first and system_message is defined else '') }}
        {{- message['content'] ~ ' [/INST]' }}
    {%- else %}
        {{- ' ' + message['content'] + eos_token }}
    {%- endif %}
{%- endfor %}
""",
    "reasoning": """{%- set ns = namespace(last=messages|length - 1, seen=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if not ns.seen and message.role == "user" and message.content is string
           and not (message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.seen = true %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}{%- set content = message.content %}
    {%- else %}{%- set content = '' %}
        {%- for item in message.content if 'text' in item %}{%- set content = content + item.text %}
            {{- '[' ~ item.text|upper ~ ']' }}
        {%- endfor %}
    {%- endif %}
    {%- if message.role == 'assistant' and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- message.role ~ ': ' ~ content|trim|replace('<b>', '*') }}
    {{- '\\n' if not loop.last }}
    {%- generation %}{{ loop.index }}{% endgeneration %}
{%- endfor %}
{%- if enable_thinking is defined and enable_thinking is false %}{{ '<think></think>' }}{% endif %}""",
    "tools": """{%- macro typed(value) -%}
    {%- if value is boolean -%}bool{%- elif value is none -%}null{%- elif value is number -%}number
    {%- elif value is string -%}string{%- elif value is mapping -%}object{%- else -%}array{%- endif -%}
{%- endmacro -%}
{%- macro show(value, depth=0) -%}
    {%- if value is mapping -%}
        {%- for key, item in value | dictsort -%}{{ ' ' * depth ~ key }}:{{ show(item, depth + 1) }};{%- endfor -%}
    {%- elif value is sequence and value is not string -%}
        {%- for item in value -%}{{ show(item, depth + 1) }}{{ ', ' if not loop.last }}{%- endfor -%}
    {%- else -%}{{ value|string }}({{ typed(value) }}){%- endif -%}
{%- endmacro -%}
{%- if tools %}{% for tool in tools %}
    {{- tool | tojson }}|{{ tool.function|tojson(indent=2) }}|{{ tool.function.parameters|tojson(sort_keys=true) }}
    {{- show(tool) }}
    {%- for key, val in tool.function.items() if key != 'description' %}{{ key ~ loop.index }}{% endfor %}
{%- endfor %}{% endif %}
{%- for message in messages %}
    {%- if message.get('tool_calls') %}
        {%- for call in message.tool_calls %}
            {{- call.id[-9:] ~ call.function.arguments|tojson ~ call.function.name.upper() }}
            {%- for key, value in call.function.arguments|items %}{{ key }}={{ show(value) }}{% endfor %}
        {%- endfor %}
        {%- continue %}
    {%- endif %}
    {%- if loop.index > 6 %}{% break %}{% endif %}
    {{- message.role|capitalize|center(12) }}{{ loop.cycle('a', 'b') }}{{ loop.previtem.role if loop.previtem }}
{%- endfor %}""",
    "filters": """{% set users = messages | selectattr('role', 'equalto', 'user') | list %}{{ users|length }}
{{ messages | map(attribute='role') | unique | join(', ') }}
{{ messages | rejectattr('role', 'in', ['tool']) | list | count }}
{{ [3, 1, 2] | sort(reverse=true) | first }} {{ [3, 1, 2]|max }} {{ 'a b c'.split() | last }} {{ 'x' in 'xyz' }}
{{ '%s-%03d' | format('n', 7) }} {{ '%.1f%%' % 99.5 }} {{ '{:>5}|{}'.format('a', 1) }}
{{ 'a\\nb' | indent(2) }} {{ 'é' | e }}
{{ (1.5 + 2) | round | int }} {{ 7 // 2 }} {{ 2 ** 10 }} {{ -5 | abs }} {{ '5' | int + 1 }}
{{ nothing | default('none', true) }}
{{ 'Hello World' | title | lower | replace('o', '0', 1) }} {{ {'a': 1, 'b': [2]}.items() | list }} {{ dict(a=1)['a'] }}
{{ range(2, 8, 3) | list }} {{ 'abc'[::-1] }} {{ ('a', 'b') + ('c',) }} {{ [1, 2] * 2 }}
{{ '-' * 5 }} {{ 1 if true else 2 }}
{% filter upper %}shouted {{ messages|length }}{% endfilter %}{% set block %}kept{% endset %}{{ block }}
{% call(x) each([1, 2]) %}<{{ x }}>{% endcall %}{% with y = 3 %}{{ y }}{% endwith %}
{%- for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}""",
}
TEMPLATES["filters"] = (
    "{% macro each(items) %}{% for i in items %}{{ caller(i) }}{% endfor %}{% endmacro %}" + TEMPLATES["filters"]
)

CONVERSATIONS = {"short": HI, "text": TEXT_ONLY, "long": LONG}
WORKS = [
    (template, conversation)
    for template in TEMPLATES
    for conversation in CONVERSATIONS
    if conversation != "long" or template not in ("chatml", "alternating")
]


@pytest.mark.parametrize(("name", "conversation"), WORKS)
@pytest.mark.parametrize("prompt", [True, False])
def test_same_text_as_transformers(name: str, conversation: str, prompt: bool) -> None:
    variables = {"bos_token": "<s>", "eos_token": "</s>", "enable_thinking": False}
    expected, _ = render_jinja_template(
        [CONVERSATIONS[conversation]], TOOLS, chat_template=TEMPLATES[name], add_generation_prompt=prompt, **variables
    )
    ours = render(TEMPLATES[name], CONVERSATIONS[conversation], TOOLS, prompt, **variables)
    assert ours == expected[0]
    assert len(ours) > 10


def test_time() -> None:
    before = datetime.now().strftime("%d %b %Y")
    shown = render("{{ strftime_now('%d %b %Y') }}", HI)
    assert shown in (before, datetime.now().strftime("%d %b %Y"))


def test_messages_are_not_changed_and_objects_not_shown() -> None:
    class Name(str):  # what a caller may well have, an enum for one
        def shout(self) -> str:
            return self.upper()

    messages = [{"role": "user", "content": Name("hi"), "parts": ("a", "b")}]
    assert render("{{ messages[0].content }}{{ messages[0].parts }}", messages) == "hi['a', 'b']"
    with pytest.raises(InputError, match="has no attribute 'shout'"):
        render("{{ messages[0].content.shout() }}", messages)
    with pytest.raises(InputError, match="a object cannot be given to a chat template, only what JSON can hold"):
        render("x", [{"role": "user", "content": object()}])


def test_long_conversations_are_no_attack() -> None:
    for count, length in ((2000, 500), (2, 1_000_000)):
        messages = [{"role": ("user", "assistant")[i % 2], "content": "x" * length} for i in range(count)]
        for name in ("chatml", "alternating", "reasoning"):
            assert len(render(TEMPLATES[name], messages)) > count * length


def test_a_thousand_messages_and_300_calls() -> None:
    """With all kinds of templates that go through the conversation once."""
    talk = [{"role": ("user", "assistant")[i % 2], "content": "x" * (200, 1800)[i % 2]} for i in range(1001)]
    for name in ("chatml", "alternating", "reasoning"):
        assert len(render(TEMPLATES[name], talk, TOOLS)) > 1_000_000
    call = {"id": "abcdefghi", "function": {"name": "weather", "arguments": {"city": "x" * 200}}}
    turn = [{"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "r" * 2000}]
    once = TEMPLATES["tools"].replace("loop.index > 6", "false")
    assert render(once, [*HI, *turn * 300], TOOLS).count("WEATHER") == 300


@pytest.mark.slow
def test_a_thousand_messages_that_are_read_again_for_each() -> None:
    """Gemma 4's template does so: here it takes about twice the time that it takes in transformers."""
    again = (
        "{% for m in messages %}{% set ns = namespace(n=0) %}{% for other in messages %}"
        "{% if other.role == m.role and loop.index0 > 0 %}{% set ns.n = ns.n + 1 %}{% endif %}{% endfor %}"
        "{{ ns.n }}{{ m.content }}{% endfor %}"
    )
    messages = [{"role": ("user", "assistant")[i % 2], "content": "x" * 2000} for i in range(1000)]
    assert render(again, messages).count("499" + "x" * 2000 + "500") == 500


PARTS_ONLY = (
    "{% for m in messages %}{{ m.role }}:{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}"
    "{% endif %}{% endfor %};{% endfor %}"
)


def test_a_template_of_parts_gets_parts() -> None:
    """SmolVLM's and Idefics 3's templates go through a list; a string has no parts, and its text would be lost."""
    template = ChatTemplate(PARTS_ONLY, {})
    assert template.render(HI) == "user:Hi;"
    assert template.render([{"role": "system", "content": "Be brief."}, *HI]) == "system:Be brief.;user:Hi;"
    assert ChatTemplate(TEMPLATES["chatml"], {}).render(HI).endswith("user\nHi<|im_end|>\n<|im_start|>assistant\n")


REFUSES_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ m.role }}:{{ m.content }};{% endfor %}"
)
DROPS_SYSTEM = "{% for m in messages if m.role != 'system' %}{{ m.role }}:{{ m.content }};{% endfor %}"


@pytest.mark.parametrize("template", [REFUSES_SYSTEM, DROPS_SYSTEM])
def test_a_system_message_that_the_template_does_not_know(template: str) -> None:
    messages = [{"role": "system", "content": "Be brief."}, *HI, {"role": "assistant", "content": "Hello."}, *HI]
    with pytest.warns(InputWarning, match="no system role: that message goes before the first user's"):
        assert ChatTemplate(template, {}).render(messages) == "user:Be brief.\n\nHi;assistant:Hello.;user:Hi;"
    assert ChatTemplate(template, {}).render(messages[1:]) == "user:Hi;assistant:Hello.;user:Hi;"


def test_a_refusal_of_all_messages_is_the_templates_own() -> None:
    with pytest.raises(InputError, match="refuses these messages: never"):
        ChatTemplate("{{ raise_exception('never') }}", {}).render(HI)


def test_templates_may_look_at_each_message_again_for_each_other() -> None:
    """Gemma 4's does; a long conversation is still no attack."""
    quadratic = (
        "{% for m in messages %}{% set ns = namespace(n=0) %}{% for other in messages %}"
        "{% if other.role == m.role and loop.index0 > 0 %}{% set ns.n = ns.n + 1 %}{% endif %}{% endfor %}"
        "{{ ns.n }}{{ m.content }}{% endfor %}"
    )
    messages = [{"role": ("user", "assistant")[i % 2], "content": "x" * 20} for i in range(160)]
    assert render(quadratic, messages).count("79" + "x" * 20 + "80") == 80


def test_macros_get_the_conversation_for_nothing() -> None:
    """Cohere's and Solar's hand all messages to a macro for each call of a tool, which looks for its answer."""
    answers = (
        "{% macro answer(all, id) %}{% for m in all if m.id == id %}{{ m.content }}{% endfor %}{% endmacro %}"
        "{% for m in messages %}{{ answer(messages, m.id) }}{% endfor %}"
    )
    messages = [{"role": "tool", "id": i, "content": f"{i} "} for i in range(300)]
    sandbox = Sandbox()
    sandbox.compared(messages)
    read = ALLOWANCE - sandbox.left
    given = min(ALLOWANCE + SHARE * read, MOST)
    sandbox = Sandbox()
    sandbox.run(answers, {"messages": messages})
    assert given - sandbox.left < 4 * 300**2  # of the loops alone; the reading of all for each would be 7 * 300² more
    assert render(answers, messages).split() == list(map(str, range(300)))


def test_lists_may_be_appended_to() -> None:
    """Kimi K2's template does so; transformers refuses it, llama.cpp does not. The caller's own list is another."""
    messages = [dict(HI[0])]
    sorted_by_role = "{% set own = [] %}{% for m in messages %}{% set _ = own.append(m) %}{% endfor %}{{ own|length }}"
    assert render(sorted_by_role + "{% set _ = messages.append(1) %}{{ messages|length }}", messages) == "12"
    assert render("{{ messages.pop().role }}{{ messages|length }}", messages) == "user0"
    assert messages == HI


# What an attacker would try: (template, part of the one line that answers it)
NS = "{% set ns = namespace(x=['ab'], y=['ab'], t=('ab',), s='ab', n=3, d={}) %}{% for i in range(100) %}"
ATTACKS = {
    # out of the sandbox
    "class": ("{{ ''.__class__ }}", "reads str.__class__"),
    "subclasses": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "reads str.__class__"),
    "item": ("{{ ''['__class__'] }}", "reads str.__class__"),
    "attr": ("{{ ''|attr('__class__') }}", "No filter named 'attr'"),
    "map attribute": ("{{ ['']|map(attribute='__class__')|list }}", "reads str.__class__"),
    "format": ("{{ '{0.__class__}'.format(1) }}", "reads int.__class__"),
    "format_map": ("{{ '{a.__class__}'.format_map({'a': 1}) }}", "reads int.__class__"),
    "globals": ("{{ raise_exception.__globals__ }}", "reads function.__globals__"),
    "macro": ("{% macro f() %}{% endmacro %}{{ f.__init__ }}", "reads Macro.__init__"),
    "self": ("{{ self.__init__.__globals__ }}", "reads TemplateReference.__init__"),
    "namespace": ("{% set ns = namespace() %}{% set ns.__class__ = 1 %}", "writes __class__ of a namespace"),
    "builtin": ("{{ namespace.mro() }}", "reads type.mro"),
    "insert": ("{{ messages.insert(0, 1) }}", "reads list.insert"),
    "pop": ("{{ messages[0].pop('role') }}", "reads dict.pop"),
    "fromkeys": ("{{ dict.fromkeys(range(9)) }}", "calls type.fromkeys"),
    "to_bytes": ("{{ (1).to_bytes(10**9, 'big') }}", "calls int.to_bytes"),
    "expandtabs": ("{{ '\t'.expandtabs(10**9) }}", "calls str.expandtabs"),
    "encode": ("{{ 'a'.encode() }}", "calls str.encode"),
    "include": ("{% include '/etc/passwd' %}", "reads other templates"),
    "import": ("{% import 'x' as y %}", "reads other templates"),
    "extends": ("{% extends 'x' %}", "reads other templates"),
    "lipsum": ("{{ lipsum(10**6) }}", "'lipsum' is undefined"),
    # without end
    "loops": ("{% for a in range(100000) %}" * 3 + "{% endfor %}" * 3, "does too much"),
    "filtered loops": (
        "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
        "does too",
    ),
    "large range": ("{% for a in range(10**9) %}{% endfor %}", "Range too big"),
    "recursion": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nests too deeply"),
    "double recursion": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "does too much",
    ),
    "recursive loop": ("{% for x in [1] recursive %}{{ loop([1, 2]) }}{% endfor %}", "nests too deeply"),
    "wide recursive loop": (
        "{% for x in range(3) recursive %}{% if loop.depth < 40 %}{{ loop(range(3)) }}{% endif %}{% endfor %}",
        "does too much",
    ),
    "block calls itself": ("{% block a %}{{ self.a() }}{% endblock %}", "calls a BlockReference"),
    "empty select": ("{% for i in range(9999) %}{{ ([0] * 9999)|select|first }}{% endfor %}", "does too much"),
    "search": (
        "{% set big = range(99999)|list %}{% for i in range(99999) %}{{ -1 in big }}{% endfor %}",
        "does too much",
    ),
    "slices": (
        "{% set big = range(99999)|list %}{% for i in range(99999) %}{{ big[1:]|length }}{% endfor %}",
        "does too much",
    ),
    "sorts": (
        "{% set big = range(99999)|list %}{% for i in range(99999) %}{{ big|sort|first }}{% endfor %}",
        "does too much",
    ),
    "lengths": (
        (
            "{% for i in range(999) %}{% for x in range(999)|map('abs') %}{{ loop.length }}{% break %}{% endfor %}"
            "{% endfor %}"
        ),
        "does too much",
    ),
    "finds": ("{% set s = 'a' * 8000000 %}{% for i in range(99999) %}{{ s.find('b') }}{% endfor %}", "does too much"),
    "many statements": ("{% for i in range(99999) %}" + "{% set a = 1 %}" * 900 + "{% endfor %}", "does too much"),
    # large
    "text": ("{{ 'a' * 10**10 }}", "makes a text of 10,000,000,000 characters"),
    "constant text": ("{% if false %}{{ 'a' * 10**10 }}{% endif %}{% set x = 'a' * 10**10 %}", "makes a text"),
    "list": ("{{ [0] * 10**10 }}", "does too much"),
    "list of lists": (
        "{% set ns = namespace(x=[]) %}{% for i in range(999) %}{% set ns.x = ns.x + [[0] * 10**6] %}{% endfor %}",
        "does too much",
    ),
    "center": ("{{ 'a'|center(10**10) }}", "pads to more than 999"),
    "center method": ("{{ 'a'.center(10**10) }}", "pads to more than 999"),
    "zfill": ("{{ 'a'.zfill(10**10) }}", "pads to more than 999"),
    "indent": ("{{ 'a\nb'|indent(10**10) }}", "pads to more than 999"),
    "json indent": ("{{ messages|tojson(indent=10**10) }}", "pads to more than 999"),
    "printf": ("{{ '%1000000000d' % 1 }}", "pads to more than 999"),
    "printf star": ("{{ '%*d' % (1000000000, 1) }}", "pads to more than 999"),
    "printf filter": ("{{ '%.1000000000f'|format(1) }}", "pads to more than 999"),
    "format width": ("{{ '{:1000000000}'.format(1) }}", "pads to more than 999"),
    "format nested width": ("{{ '{:{}}'.format(1, 1000000000) }}", "pads to more than 999"),
    "batch": ("{{ [1]|batch(10**9, 0)|list }}", "No filter named 'batch'"),
    "power": ("{{ 2 ** 100000000 }}", "numbers of more than 4,096 bits"),
    "squares": (NS + "{% set ns.n = ns.n * ns.n %}{% endfor %}", "numbers of more than 4,096 bits"),
    "doubling ~": (NS + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}", "makes a text"),
    "doubling +": (NS + "{% set ns.s = ns.s + ns.s %}{% endfor %}", "makes a text"),
    "doubling list": (NS + "{% set ns.x = ns.x + ns.x %}{% endfor %}", "does too much"),
    "doubling join": (NS + "{% set ns.s = [ns.s, ns.s]|join %}{% endfor %}", "makes a text"),
    "doubling join method": (NS + "{% set ns.s = ns.s.join([ns.s, ns.s]) %}{% endfor %}", "does too much"),
    "doubling replace": (NS + "{% set ns.s = ns.s|replace('a', ns.s) %}{% endfor %}", "makes a text"),
    "doubling replace method": (NS + "{% set ns.s = ns.s.replace('', ns.s) %}{% endfor %}", "makes a text"),
    "doubling printf": (NS + "{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% endfor %}", "makes a text"),
    "doubling format": (NS + "{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}", "makes a text"),
    "doubling block": (
        NS + "{% set y %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = y %}{% endfor %}",
        "writes more than",
    ),
    "doubling macro": (
        "{% macro f(s) %}{{ s }}{{ s }}{% endmacro %}" + NS + "{% set ns.s = f(ns.s) %}{% endfor %}",
        "writes more than",
    ),
    "plain text": ("{% for i in range(99999) %}" + "abcdefghij" * 9000 + "{% endfor %}", "writes more than"),
    "plain text in a macro": (
        "{% macro f() %}{% for i in range(99999) %}"
        + "abcdefghij" * 9000
        + "{% endfor %}{% endmacro %}{{ f()|length }}",
        "writes more than",
    ),
    "joined": ("{{ ('a' * 1000000).join(range(99999)|map('string')) }}", "does too much|makes a text"),
    "time": ("{{ strftime_now('%c' * 100000) }}", "a pattern for the time of 200,000 characters"),
    # small values that print, compare and hash as large ones
    "nested lists": (NS + "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}", "does too much"),
    "nested json": (NS + "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x|tojson }}", "does too much"),
    "nested views": (
        NS + "{% set ns.d = {'a': ns.d, 'b': ns.d} %}{% endfor %}{{ ns.d.items()|string }}",
        "does too much",
    ),
    "nested comparison": (
        NS + "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
        "does too much",
    ),
    "nested test": (
        NS + "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x is equalto(ns.y) }}",
        "does too much",
    ),
    "nested key": (NS + "{% set ns.t = (ns.t, ns.t) %}{% endfor %}{{ {ns.t: 1} }}", "does too much"),
    "nested item": (NS + "{% set ns.t = (ns.t, ns.t) %}{% endfor %}{{ ns.d[ns.t] }}", "does too much"),
    "nested get": (NS + "{% set ns.t = (ns.t, ns.t) %}{% endfor %}{{ ns.d.get(ns.t) }}", "does too much"),
    "nested in": (NS + "{% set ns.t = (ns.t, ns.t) %}{% endfor %}{{ ns.t in ns.d }}", "does too much"),
    "list in itself": ("{% set x = [1] %}{% set _ = x.append(x) %}{{ x }}", "nests too deep"),
    "list often in itself": (
        "{% set x = [] %}{% for i in range(9999) %}{% set _ = x.append(x) %}{% endfor %}{{ x == [x] }}",
        "does too much",
    ),
    "appended copies": (
        "{% set x = [1] %}{% for i in range(99) %}{% set _ = x.append(x.copy()) %}{% endfor %}{{ x }}",
        "does too much",
    ),
    "wide list": (
        "{% set big = range(99999)|list %}{% for i in range(999) %}{{ [big] * 99999 == 1 }}{% endfor %}",
        "does too much",
    ),
    "wide call": (
        (
            "{% macro f() %}{{ varargs|length }}{% endmacro %}{% set big = range(99999)|list %}"
            "{% for i in range(99999) %}{{ f(*big) }}{% endfor %}"
        ),
        "does too much",
    ),
    "deep": (
        "{% set ns = namespace(x=[]) %}{% for i in range(1500) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
        "nests too deep",
    ),
    # not templates at all
    "syntax": ("{% for %}", "cannot be used: Expected an expression"),
    "open block": ("{% if x %}", "cannot be used: Unexpected end of template"),
    "parentheses": ("{{ " + "(" * 50000 + "1" + ")" * 50000 + " }}", "nests too deeply"),
    "nested loops": ("{% for a in [1] %}" * 60 + "{% endfor %}" * 60, "too many statically nested blocks"),
    "long number": ("{{ " + "9" * 100_000 + " }}", "Exceeds the limit"),
    "long template": ("a" * (1 << 18), "has 262,144 characters, more than 131,072"),
    # what goes wrong
    "undefined": ("{{ nothing.role }}", "cannot be used: 'nothing' is undefined"),
    "division": ("{{ 1 // 0 }}", "fails on these messages: ZeroDivisionError"),
    "types": ("{{ 1 + 'a' }}", "fails on these messages: TypeError"),
    "refusal": ("{{ raise_exception('no\nsystem role') }}", "the chat template refuses these messages: no system role"),
    "long refusal": ("{{ raise_exception('a' * 5000) }}", "refuses these messages: a+…"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_hostile_templates_end_with_one_line(name: str) -> None:
    template, problem = ATTACKS[name]
    found = outcome(template, HI, share=40)  # of the allowance, so that the test is soon done
    assert re.search(problem, found.problem)
    assert found.seconds < 5
    assert found.peak < 50 * 2**20
    assert "\n" not in found.problem
    assert len(found.problem) < 350


def test_the_whole_allowance_is_soon_spent() -> None:
    start = time.process_time()
    with pytest.raises(InputError, match="needs more work than a conversation can need"):
        render(ATTACKS["loops"][0], HI)
    assert time.process_time() - start < 5


def test_attacks_in_other_threads_end_too() -> None:
    def attack(_: int) -> str:
        with pytest.raises(InputError) as caught:
            render(ATTACKS["nested lists"][0], HI)
        return render(TEMPLATES["chatml"], HI) + str(caught.value)

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(attack, range(2))
    assert first == second
    assert first.endswith("does too much: it needs more work than a conversation can need")
