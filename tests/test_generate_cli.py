"""The verbs that run a model, on a tiny checkpoint: what they print, their exit status, their errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from cases import TEXT
from click.testing import CliRunner, Result
from reference import randomize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

import vitruvius as vt
from vitruvius.checkpoints.defaults import Defaults
from vitruvius.cli import main
from vitruvius.cli.running import variable
from vitruvius.errors import InputError
from vitruvius.inference import generation
from vitruvius.inference.sampling import Sampler

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[it]{% endif %}"
)
CONTEXT = 4000


def write_tokenizer(folder: Path) -> None:
    """Byte-level without merges: each byte is a token, after three special ones."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<s>": 0, "</s>": 1, "<end>": 2} | {letter: i + 3 for i, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<s>", "</s>", "<end>")])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"eos_token": "</s>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights that never ends a text by itself."""
    path = tmp_path_factory.mktemp("checkpoints") / "tiny"
    config = TEXT["mistral_window"] | {"vocab_size": 259, "max_position_embeddings": CONTEXT, "eos_token_id": None}
    model = vt.build(config)
    randomize(model, torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.head.weight[:3] = 0  # the special tokens have the logit 0, and there is always a larger one
    vt.save(model, path)
    write_tokenizer(path)
    return path


def run(verb: str, *args: str, stdin: str | bytes | None = None) -> Result:
    """By PyTorch, whatever else is installed."""
    executor = ["--engine", "torch"] if verb in ("generate", "chat") and "--engine" not in args else []
    return CliRunner().invoke(main, [verb, *args, *executor], input=stdin)


def expected(folder: Path, prompt: str | list[dict[str, Any]], count: int, **options: Any) -> str:
    """What the library itself writes."""
    sampler = Sampler(**options.pop("sampling", {}))
    return "".join(generation.stream_text(vt.load(folder), vt.tokenizer(folder), prompt, count, sampler, **options))


def test_generate_prints_the_text_and_tells_its_speed(folder: Path) -> None:
    result = run("generate", str(folder), "-p", "The capital", "--max-new-tokens", "20")
    assert result.exit_code == 0
    assert result.stdout == expected(folder, "The capital", 20) + "\n"
    assert "20 tokens at " in result.stderr
    assert "tokens/s" in result.stderr
    assert "prompt of 11 tokens" in result.stderr
    assert result.stderr.splitlines()[1:] == [
        "the prompt was continued as it stands; --chat answers it by the model's chat template"
    ]


def test_generate_reads_the_prompt_from_stdin(folder: Path) -> None:
    result = run("generate", str(folder), "-p", "-", "--max-new-tokens", "9", stdin="two\nlines\n")
    assert result.stdout == expected(folder, "two\nlines", 9) + "\n"


def test_generate_answers_by_the_chat_template(folder: Path) -> None:
    turn = {"role": "user", "content": "hi"}
    chat = run("generate", str(folder), "-p", "hi", "--chat", "--max-new-tokens", "9")
    assert chat.stdout == expected(folder, [turn], 9) + "\n" == expected(folder, "[user]hi[it]", 9) + "\n"
    assert chat.stderr.count("\n") == 1
    system = run("generate", str(folder), "-p", "hi", "--system", "be short", "--max-new-tokens", "9")
    assert system.stdout == expected(folder, [{"role": "system", "content": "be short"}, turn], 9) + "\n"
    assert len({chat.stdout, system.stdout, expected(folder, "hi", 9) + "\n"}) == 3


def test_generate_samples_as_it_is_told(folder: Path) -> None:
    options = "--temperature 1.5 --top-k 40 --top-p 0.9 --min-p 0.01 --repetition-penalty 1.3 --seed 4".split()
    result = run("generate", str(folder), "-p", "x", "--max-new-tokens", "30", *options)
    sampling = {"temperature": 1.5, "top_k": 40, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.3, "seed": 4}
    assert result.stdout == expected(folder, "x", 30, sampling=sampling) + "\n"
    assert result.stdout != run("generate", str(folder), "-p", "x", "--max-new-tokens", "30", *options[:-1], "5").stdout


def test_generate_as_json_up_to_a_stop_string(folder: Path) -> None:
    text = expected(folder, "The capital", 30)
    stop = text[12:14]
    result = run("generate", str(folder), "-p", "The capital", "--stop", "nowhere", "--stop", stop, "--json")
    record = json.loads(result.stdout)
    assert record["text"] == text[: text.index(stop)]
    assert (record["finish"], record["prompt"], record["tokens"]["prompt"]) == ("stop", "The capital", 11)
    assert record["tokens_per_second"]["decode"] > 0
    assert result.stderr == ""


def test_generate_says_where_it_stopped(folder: Path) -> None:
    result = run("generate", str(folder), "-p", "x" * (CONTEXT - 1), "--max-new-tokens", "9")
    assert "2 tokens at" in result.stderr
    assert "stopped at the context of 4,000 tokens" in result.stderr


def without(folder: Path, target: Path, *names: str) -> Path:
    """A copy of the checkpoint that lacks some files."""
    target.mkdir()
    for file in folder.iterdir():
        if file.name not in names:
            os.link(file, target / file.name)
    return target


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-p", ""], "the prompt is empty"),
        (["-p", "x" * 4001], "the prompt has 4,001 tokens, and the model's context is 4,000"),
        (["-p", "x", "--temperature", "-1"], "temperature must be at least 0, got -1.0"),
        (["-p", "x", "--top-p", "1.5"], "top_p must be above 0 and at most 1, got 1.5"),
        (["-p", "x", "--template-arg", "a=1"], "--template-arg is for the chat template: add --chat"),
        (["-p", "x", "--chat", "--template-arg", "high"], "--template-arg is NAME=VALUE"),
        (["-p", "x", "--stop", ""], "a stop string must not be empty"),
        (["-p", "x", "--dtype", "int3"], "int3"),
        (["-p", "x", "--device", "cuda"], "the device 'cuda' cannot be used"),
        (["-p", "x", "--device", "nowhere"], "the device 'nowhere' cannot be used"),
        (["-p", "x", "--max-new-tokens", "0"], "max-new-tokens"),
        (["-p", "x", "--engine", "abacus"], "abacus"),
        ([], "-p"),
    ],
    ids=str,
)
def test_unusable_input_is_one_line_and_status_2(folder: Path, options: list[str], message: str) -> None:
    result = run("generate", str(folder), *options)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.stderr
    assert message in result.stderr


def test_a_checkpoint_that_lacks_something(folder: Path, tmp_path: Path) -> None:
    mute = without(folder, tmp_path / "mute", "tokenizer.json")
    for verb in (["generate", str(mute), "-p", "x"], ["chat", str(mute)]):
        result = run(*verb)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert "tokenizer" in result.stderr
    plain = without(folder, tmp_path / "plain", "tokenizer_config.json")
    for verb in (["generate", str(plain), "-p", "x", "--chat"], ["chat", str(plain)]):
        result = run(*verb)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert "no chat template" in result.stderr


@pytest.mark.parametrize("verb", ["generate -p x", "chat", "verify"])
def test_without_torch(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitruvius.cli.running.find_spec", lambda name: None)
    name, *options = verb.split()
    result = run(name, "smollm2-135m-instruct", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "vitruvius: running a model needs PyTorch, which is not installed: pip install 'vitruvius[torch]'\n"
    )


def test_private_keys_of_fine_tunes(folder: Path, tmp_path: Path) -> None:
    tuned = without(folder, tmp_path / "tuned", "config.json")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (tuned / "config.json").write_text(json.dumps(config | {"our_own": 3}), "utf-8")
    refused = run("generate", str(tuned), "-p", "x")
    assert (refused.exit_code, "our_own" in refused.stderr) == (2, True)
    result = run("generate", str(tuned), "-p", "x", "--ignore-key", "our_own", "--max-new-tokens", "5")
    assert result.stdout == expected(folder, "x", 5) + "\n"


# ------------------------------------------------------------------ chat


def test_chat_remembers_the_conversation(folder: Path) -> None:
    result = run("chat", str(folder), "--max-new-tokens", "8", stdin="one\n\ntwo\n/clear\none\n")
    asked = [{"role": "user", "content": "one"}]
    first = expected(folder, asked, 8)
    asked += [{"role": "assistant", "content": first}, {"role": "user", "content": "two"}]
    second = expected(folder, asked, 8)
    assert result.stdout == f"{first}\n{second}\n{first}\n"
    assert result.exit_code == 0
    assert "remembered" in result.stderr


def test_chat_goes_on_after_an_answer_is_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, choose = [], Sampler.choose

    def interrupted(self: Sampler, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return choose(self, *args)

    monkeypatch.setattr(Sampler, "choose", interrupted)
    result = run("chat", str(folder), "--max-new-tokens", "8", "--system", "S", stdin="one\ntwo\n")
    asked = [{"role": "system", "content": "S"}, {"role": "user", "content": "one"}]
    first = expected(folder, asked, 3)
    asked += [{"role": "assistant", "content": first}, {"role": "user", "content": "two"}]
    assert result.stdout == f"{first}\n{expected(folder, asked, 8)}\n"
    assert result.exit_code == 0


def test_chat_knows_its_commands(folder: Path) -> None:
    lines = "/help\n/clean up\n/etc/hosts\n /help\n"
    result = run("chat", str(folder), "--max-new-tokens", "4", stdin=lines)
    path = [{"role": "user", "content": "/etc/hosts"}]
    first = expected(folder, path, 4)
    asked = [*path, {"role": "assistant", "content": first}, {"role": "user", "content": " /help"}]
    assert result.stdout == f"{first}\n{expected(folder, asked, 4)}\n"
    assert "/clean is no command" in result.stderr
    assert result.stderr.count("/clear forgets the conversation, /help says this") == 3


def test_chat_forgets_the_oldest_turns_where_the_context_is_full(folder: Path) -> None:
    long = ["a" * 1300, "b" * 1300, "c" * 1300]
    result = run("chat", str(folder), "--max-new-tokens", "200", "--system", "S", stdin="\n".join(long) + "\n")
    system = {"role": "system", "content": "S"}
    answers, asked = [], [system]
    for question, kept in zip(long, (0, 2, 2), strict=True):
        asked = [system, *asked[1:][len(asked) - 1 - kept :], {"role": "user", "content": question}]
        answers.append(expected(folder, asked, 200))
        asked.append({"role": "assistant", "content": answers[-1]})
    assert result.stdout == "".join(f"{answer}\n" for answer in answers)
    assert result.stderr.count("the context of 4,000 tokens is full: the oldest turn is forgotten") == 1


def test_a_gguf_file_may_ask_for_sampling(tmp_path: Path) -> None:
    """llama.cpp's converter writes a generation_config.json as general.sampling."""
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    for key, value in {"temp": 0.6, "top_p": 0.95, "penalty_repeat": 1.05}.items():
        writer.add_float32(f"general.sampling.{key}", value)
    writer.add_int32("general.sampling.top_k", 20)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    asked = Defaults.of(tmp_path / "a.gguf", {}).sampling
    assert asked == pytest.approx({"temperature": 0.6, "top_p": 0.95, "top_k": 20, "repetition_penalty": 1.05})
    assert list(asked) == ["temperature", "top_p", "top_k", "repetition_penalty"]


def test_tools_and_documents_are_lists_of_objects() -> None:
    assert variable('tools=[{"type": "function"}]') == ("tools", [{"type": "function"}])
    for text, problem in (
        ("tools=weather", "tools is a JSON list of objects, and this is no JSON"),
        ('documents={"text": 1}', "documents is a JSON list of objects, not"),
        ('documents=["a"]', "documents is a JSON list of objects, not"),
    ):
        with pytest.raises(InputError, match=problem):
            variable(text)


def test_chat_samples_as_the_model_asks(folder: Path, tmp_path: Path) -> None:
    asking = without(folder, tmp_path / "asking", "generation_config.json")
    wanted = {"do_sample": True, "temperature": 1.4, "top_k": 40, "top_p": 0.9, "min_p": 0.01}
    (asking / "generation_config.json").write_text(json.dumps(wanted), "utf-8")
    turn = [{"role": "user", "content": "one"}]
    del wanted["do_sample"]
    result = run("chat", str(asking), "--max-new-tokens", "9", "--seed", "4", stdin="one\n")
    assert result.stdout == expected(folder, turn, 9, sampling={**wanted, "seed": 4}) + "\n"
    assert "as generation_config.json asks: temperature 1.4, top_p 0.9, top_k 40, min_p 0.01\n" in result.stderr
    options = ["--max-new-tokens", "9", "--seed", "4", "--temperature", "0", "--top-k", "3"]
    greedy = run("chat", str(asking), *options, stdin="one\n")
    assert greedy.stdout == expected(folder, turn, 9) + "\n" != result.stdout
    assert "as generation_config.json asks: top_p 0.9, min_p 0.01\n" in greedy.stderr
    generated = run("generate", str(asking), "-p", "one", "--chat", "--max-new-tokens", "9")
    assert generated.stdout == greedy.stdout


THINKS = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[it]{% if enable_thinking is not false %}<think>{% else %}<think></think>{% endif %}"
    "{% endif %}"
)


def test_reasoning_is_apart(folder: Path, tmp_path: Path) -> None:
    thinking = without(folder, tmp_path / "thinking", "tokenizer_config.json")
    settings = {"eos_token": "</s>", "chat_template": THINKS}
    (thinking / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    said = expected(folder, "[user]hi[it]<think>", 9)
    result = run("generate", str(thinking), "-p", "hi", "--chat", "--max-new-tokens", "9")
    assert (result.stdout, result.stderr.splitlines(keepends=False)[0]) == ("\n", said.strip().splitlines()[0])
    record = json.loads(run("generate", str(thinking), "-p", "hi", "--chat", "--max-new-tokens", "9", "--json").stdout)
    assert (record["text"], record["reasoning"]) == ("", said.strip())
    off = ["-p", "hi", "--chat", "--max-new-tokens", "9", "--json", "--template-arg", "enable_thinking=false"]
    record = json.loads(run("generate", str(thinking), *off).stdout)
    said = expected(folder, "[user]hi[it]<think></think>", 9)
    assert (record["text"].strip(), record["reasoning"]) == (said.strip(), "")
    chat = run("chat", str(thinking), "--max-new-tokens", "9", stdin="hi\n")
    assert chat.stdout == "\n"


def test_chat_keeps_reasoning_out_of_the_history(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitruvius.cli.chat import Conversation
    from vitruvius.inference.answers import FORMATS, Channels

    written = [*b"<think>hm</think>Hi", None]  # None: the end
    tokens = vt.tokenizer(folder)
    monkeypatch.setattr(Channels, "of", classmethod(lambda cls, *_: cls(FORMATS[-1])))
    turn = iter(1 if byte is None else tokens.encode(chr(byte))[0] for byte in written)
    monkeypatch.setattr(Sampler, "choose", lambda self, *_: next(turn))
    conversation = Conversation(generation.Session(vt.load(folder)), tokens, Sampler(), [], 30, (), {})
    conversation.say("hello")
    assert conversation.messages == [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Hi"}]


@pytest.mark.parametrize("verb", [["generate", "-p", "-"], ["chat"]])
def test_stdin_that_is_not_utf8(verb: list[str], folder: Path) -> None:
    name, *options = verb
    result = run(name, str(folder), *options, stdin="caf\xe9\n".encode("latin-1"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(
        "vitruvius: the text on stdin is not UTF-8 (byte 0xe9): convert it, for example with iconv\n"
    )


def test_chat_says_when_it_is_too_long_and_goes_on(folder: Path) -> None:
    result = run("chat", str(folder), "--max-new-tokens", "4", stdin=f"{'x' * 4000}\none\n")
    assert result.stdout == expected(folder, [{"role": "user", "content": "one"}], 4) + "\n"
    assert "the model's context is 4,000: shorten it (/clear forgets the conversation)" in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(
    "paste", [b"first\rsecond\rthird\r", b"\x1b[200~first\nsecond\nthird\x1b[201~\r"], ids=["plain", "bracketed"]
)
def test_pasted_lines_are_one_message(paste: bytes) -> None:
    import pty

    script = "import sys; from vitruvius.cli.chat import read; sys.stderr.write(repr([read(), read(), read()]))"
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=follower, stdout=follower, stderr=subprocess.PIPE, text=True
    )
    os.close(follower)
    for keys in (paste, b"alone\r", b"\x04"):
        shown = b""
        while not shown.endswith(b"> "):
            shown += os.read(leader, 100)
        time.sleep(0.1)
        os.write(leader, keys)
    _, messages = process.communicate(timeout=20)
    os.close(leader)
    assert messages == repr(["first\nsecond\nthird", "alone", None])


# ------------------------------------------------------------------ processes that end early


def start(*args: str) -> subprocess.Popen[bytes]:
    # what started the tests may ignore the signal (nohup, a job in the background), and children inherit that
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heard}; from vitruvius.cli import main; main()", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_closed_pipe_ends_it_quietly(folder: Path) -> None:
    process = start("generate", str(folder), "-p", "x", "--max-new-tokens", "3000")
    assert process.stdout.read(5)
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 141


def test_ctrl_c_ends_it_quietly(folder: Path) -> None:
    process = start("generate", str(folder), "-p", "x", "--max-new-tokens", "3000")
    assert process.stdout.read(5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.strip() == b""


# ------------------------------------------------------------------ verify


def test_verify_of_equal_models(folder: Path) -> None:
    result = run("verify", str(folder), "--tokens", "40")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("tiny equals transformers 5.")
    record = json.loads(run("verify", str(folder), "--json").stdout)
    assert record["equal"]
    assert record["difference"] is None
    assert (record["batch"], record["tokens"]) == (2, 64)
    assert 0 < record["full"] < 2e-5
    assert 0 < record["cached"] < 2e-5


def test_verify_names_the_first_module_that_differs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitruvius import models

    load = models.load

    def altered(*args: Any, **keys: Any) -> Any:
        model = load(*args, **keys)
        with torch.no_grad():
            model.layers[1].mixer.body.kv.v.weight[3, 5] += 0.5
        return model

    monkeypatch.setattr(models, "load", altered)
    result = run("verify", str(folder))
    assert result.exit_code == 1
    assert "tiny DIFFERS FROM transformers" in result.stdout
    assert (
        "layers.1.mixer.body.kv.v (model.layers.1.self_attn.v_proj) is the first module that differs" in result.stdout
    )


def test_verify_without_transformers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("vitruvius.inference.verify.metadata.version", missing)
    result = run("verify", str(folder))
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "transformers is not installed" in result.stderr
