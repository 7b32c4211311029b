"""The one loop that writes tokens: requests beside each other, log-probabilities, order, memory, interruptions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import drafting
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_inference import PROMPTS, Fed, Letters, greedy, model_of

import vitruvius as vt
from vitruvius.errors import InputError
from vitruvius.inference.generation import Session
from vitruvius.inference.lookup import Lookup
from vitruvius.inference.payoff import LATEST, PAUSE, Payoff
from vitruvius.inference.request import Completion, Request
from vitruvius.inference.sampling import Sampler, log_softmax
from vitruvius.inference.scheduler import Scheduler, shared
from vitruvius.inference.torch_runner import TorchRunner
from vitruvius.spec import DRAFTS

MODELS = ["gemma3", "deepseek_v3", "qwen3_moe_window", "nemotron_h", "qwen3_next"]
RECURRENT = ["nemotron_h", "qwen3_next"]


def scheduler(name: str, **options: Any) -> Scheduler:
    return Scheduler(TorchRunner(model_of(name)), **options)


def alone(name: str, request: Request) -> Completion:
    one = scheduler(name)
    completion = one.add(request)
    list(one.run())
    return completion


def even(ids: Sequence[int], logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """Forbids odd tokens after an even one."""
    return np.where(np.arange(len(logits)) % 2 > ids[-1] % 2, -np.inf, logits)


def requests(count: int) -> list[Request]:
    """Unlike in everything."""
    choose, found = Random(4), []
    for i in range(count):
        sampler = Sampler(
            temperature=choose.choice([0.0, 0.7, 1.3]),
            top_k=choose.choice([None, 20]),
            top_p=choose.choice([None, 0.9]),
            min_p=choose.choice([None, 0.02]),
            repetition_penalty=choose.choice([1.0, 1.2]),
            presence_penalty=choose.choice([0.0, 0.4]),
            frequency_penalty=choose.choice([0.0, 0.3]),
            logit_bias=choose.choice([{}, {7: 1.5, 9: -100.0}]),
            seed=i // 2,
        )
        ids = [choose.randrange(83) for _ in range(choose.choice([1, 5, 14, 30]))]
        found.append(
            Request(
                ids=ids,
                max_new_tokens=choose.randint(2, 9),
                sampler=sampler,
                processors=[even] * (i % 3 == 0),
                logprobs=choose.randint(0, 4),
                lookup=choose.choice([0, 3]),
            )
        )
    return found


@pytest.mark.parametrize("name", MODELS)
def test_the_same_tokens_in_any_company(name: str) -> None:
    asked = requests(16)
    wanted = [alone(name, request) for request in asked]
    assert {tuple(completion.ids) for completion in wanted} != {()}
    for seed, options in enumerate([{}, {"step_tokens": 5}, {"max_running": 3, "prefixes": 2, "slack": 8}]):
        choose, shares = Random(seed), scheduler(name, **options)
        order = choose.sample(range(16), 16)
        got: dict[int, Completion] = {}
        while order or not shares.idle:
            while order and choose.random() < 0.6:
                i = order.pop()
                got[i] = shares.add(asked[i])
            shares.step()
        for i, completion in enumerate(wanted):
            assert got[i].ids == completion.ids
            assert got[i].finish == completion.finish
            for ours, theirs in zip(got[i].tokens, completion.tokens, strict=True):
                assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-5, rel=1e-5)
                assert [place for place, _ in ours.top] == [place for place, _ in theirs.top]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("step_tokens", [512, 4])
def test_log_probabilities_are_those_of_a_full_pass(name: str, step_tokens: int) -> None:
    model, prompt = model_of(name), PROMPTS[0]
    one = scheduler(name, step_tokens=step_tokens)
    request = Request(
        ids=prompt, max_new_tokens=6, sampler=Sampler(temperature=1.0, seed=1, top_k=5, logit_bias={3: 2})
    )
    request = replace(request, logprobs=4, prompt_logprobs=2)
    completion = one.add(request)
    one.add(Request(ids=PROMPTS[2]))
    list(one.run())
    ids = [*prompt, *completion.ids]
    with torch.no_grad():
        wanted = log_softmax(model(torch.tensor([ids]))[0].numpy())
    assert [token.id for token in completion.prompt] == prompt
    assert (completion.prompt[0].logprob, completion.prompt[0].top) == (None, ())
    for place, token in enumerate([*completion.prompt, *completion.tokens][1:], 1):
        row, most = wanted[place - 1], 2 if place < len(prompt) else 4
        assert token.logprob == pytest.approx(row[ids[place]], abs=1e-5, rel=1e-5)
        assert [i for i, _ in token.top] == np.argsort(-row)[:most].tolist()
        np.testing.assert_allclose([value for _, value in token.top], np.sort(row)[::-1][:most], rtol=1e-5, atol=1e-5)


def test_a_prompt_can_be_read_for_its_log_probabilities_only() -> None:
    one = scheduler("gemma3", prefixes=3)
    for _ in range(2):  # also where its sequence is remembered
        completion = one.add(Request(ids=PROMPTS[0], max_new_tokens=0, prompt_logprobs=0))
        (event,) = one.run()
        assert (event.token, completion.tokens, completion.finish) == (None, [], "length")
        assert len(completion.prompt) == len(PROMPTS[0])
    with pytest.raises(InputError, match="max_new_tokens must be a whole number of at least 1, got 0"):
        one.add(Request(ids=PROMPTS[0], max_new_tokens=0))


def test_text_ends_at_a_stop_string_whatever_tokens_it_is_made_of() -> None:
    tokenizer, prompt = Letters(), "HELLO"
    ids = tokenizer.encode(prompt)
    text = alone("gemma3", Request(ids=ids, max_new_tokens=20, tokenizer=tokenizer)).text
    assert text == tokenizer.decode(greedy(model_of("gemma3"), ids, 20))
    for length in (1, 2, 3, 5):
        stop = text[9 : 9 + length]
        one = scheduler("gemma3")
        completion = one.add(Request(ids=ids, max_new_tokens=20, tokenizer=tokenizer, stop=["nowhere", stop]))
        seen = ""
        for event in one.run():
            seen += event.token.text if event.token else ""
            assert text[: text.index(stop)].startswith(seen), "no part of a stop string is given out"
        assert (seen, completion.finish) == (text[: text.index(stop)], "stop")
        assert len(completion.tokens) >= text.index(stop) + length
    with pytest.raises(InputError, match="stop strings need a tokenizer"):
        scheduler("gemma3").add(Request(ids=[1], stop=["x"]))


def test_one_request_that_fails_does_not_end_the_others() -> None:
    def forbid(ids: Sequence[int], logits: NDArray[np.floating]) -> NDArray[np.floating]:
        return logits if len(ids) < 15 else np.full_like(logits, -np.inf)

    both = scheduler("gemma3")
    bad = both.add(Request(ids=PROMPTS[0], processors=[forbid]))
    good = both.add(Request(ids=PROMPTS[2], max_new_tokens=8))
    list(both.run())
    assert (bad.finish, len(bad.tokens), str(bad.error)[:16]) == ("error", 2, "no token is left")
    assert good.ids == greedy(model_of("gemma3"), PROMPTS[2], 8)
    with pytest.raises(InputError, match="no token is left"):
        list(both.follow(bad))


# ------------------------------------------------------------------ order


def test_a_long_prompt_does_not_stall_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    fed, both = Fed(monkeypatch), scheduler("gemma3", step_tokens=8)
    short = both.add(Request(ids=[5], max_new_tokens=9))
    both.step()
    long = both.add(Request(ids=[1] * 40, max_new_tokens=2))
    counts = []
    while not long.tokens:
        both.step()
        counts.append(len(short.tokens))
    assert counts == [2, 3, 4, 5, 6, 7], "a token each step"
    assert fed.steps[1:] == [
        *[[(1, "last"), (7, "none")]] * 5,
        [(1, "last"), (5, "last")],
    ]


def test_order_is_priority_and_then_arrival() -> None:
    one, ends = scheduler("gemma3", max_running=1), []
    names = {}
    for name, priority in (("a", 1), ("b", 1), ("c", 0), ("d", -1)):
        names[one.add(Request(ids=PROMPTS[2], max_new_tokens=3, priority=priority))] = name
        if name == "a":
            one.step()
    for event in one.run():
        if event.completion.finish:
            ends.append(names[event.completion])
    assert ends == ["d", "c", "a", "b"], "who had begun gives way to what is more urgent, and goes on before its equals"
    assert all(completion.ids == greedy(model_of("gemma3"), PROMPTS[2], 3) for completion in names)


def test_a_request_can_be_cancelled_at_any_time() -> None:
    model = model_of("qwen3_moe_window")
    several = scheduler("qwen3_moe_window", max_running=2, prefixes=2)
    first, second, third = (several.add(Request(ids=prompt, max_new_tokens=6)) for prompt in PROMPTS)
    several.step()
    several.cancel(third)
    several.cancel(first)
    assert (first.finish, third.finish, len(first.tokens), len(third.tokens)) == ("cancelled", "cancelled", 1, 0)
    events = list(several.run())
    assert [event.completion for event in events if event.token is None] == [third, first]
    assert second.ids == greedy(model, PROMPTS[1], 6)
    again = several.add(Request(ids=PROMPTS[0], max_new_tokens=3))
    tokens = several.follow(again)
    next(tokens)
    assert again.timing.reused == len(PROMPTS[0]) - 1, "what it had read is still of use"
    tokens.close()
    assert (again.finish, several.idle) == ("cancelled", True)


# ------------------------------------------------------------------ memory


@pytest.mark.parametrize("name", ["gemma3", "nemotron_h"])
def test_memory_is_never_exceeded_and_all_are_served(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = TorchRunner(model_of(name))
    price = runner.sequence_bytes(24, 3, 0)
    budget, choose = int(3.5 * price), Random(0)
    one = Scheduler(runner, memory=budget, slack=3)
    step, most = TorchRunner.step, [0]

    def measured(self: TorchRunner, parts: Any) -> Any:
        out = step(self, parts)
        most[0] = max(most[0], one.nbytes)
        return out

    monkeypatch.setattr(TorchRunner, "step", measured)
    asked = [replace(r, ids=r.ids[:12], priority=choose.choice([0, 0, 1]), lookup=0) for r in requests(12)]
    got: list[Completion] = []
    while len(got) < 12 or not one.idle:
        if len(got) < 12:
            got.append(one.add(asked[len(got)]))
        one.step()
        assert one.nbytes <= budget
    assert budget / 2 < most[0] <= budget, "it is used"
    for request, completion in zip(asked, got, strict=True):
        assert completion.ids == alone(name, request).ids
    with pytest.raises(InputError, match=r"the request needs [\d,]+ bytes of memory, and there are"):
        one.add(Request(ids=[1] * 30, max_new_tokens=200))


@pytest.mark.parametrize("name", ["gemma3", "deepseek_v3", "nemotron_h"])
def test_sequences_grow_and_who_gives_way_writes_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for five at the beginning, and for fewer at the end."""
    monkeypatch.setattr("vitruvius.inference.scheduler.PAGE", 4)
    monkeypatch.setattr("vitruvius.inference.scheduler.AHEAD", 4)
    runner = TorchRunner(model_of(name))
    asked = [replace(r, ids=r.ids[:8], max_new_tokens=30, eos=()) for r in requests(6)]
    one = Scheduler(runner, memory=5 * runner.sequence_bytes(16, 3, 8), prefixes=2, slack=3)
    got = [one.add(request) for request in asked]
    most = 0
    while not one.idle:
        one.step()
        most = max(most, one.running)
        assert one.nbytes <= one.reserved <= one.memory
    assert most >= 4
    assert one.preempted > 0
    for request, completion in zip(asked, got, strict=True):
        assert (completion.ids, completion.finish) == (alone(name, request).ids, "length")


def test_without_a_number_of_tokens_memory_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitruvius.inference.scheduler.PAGE", 4)
    runner = TorchRunner(model_of("mistral"))
    one = Scheduler(runner, memory=runner.sequence_bytes(24, 0, 0))
    request = Request(ids=[3] * 7, max_new_tokens=None, eos=())
    completion = one.add(request)
    list(one.run())
    assert (len(completion.ids), completion.finish) == (24 - 7 + 1, "context")
    assert completion.ids == alone("mistral", replace(request, max_new_tokens=18)).ids
    with pytest.raises(InputError, match=r"needs [\d,]+ bytes of memory"):
        one.add(replace(request, ids=[3] * 24))
    unbounded = alone("mistral", request)
    assert (len(unbounded.ids), unbounded.finish) == (runner.spec.context - 7 + 1, "context")


def test_remembered_sequences_give_way() -> None:
    runner = TorchRunner(model_of("gemma3"))
    room = Scheduler(runner, prefixes=1)
    room.add(Request(ids=PROMPTS[0], max_new_tokens=4))
    room.step()
    one = Scheduler(runner, prefixes=8, memory=int(2.5 * room.nbytes))
    for start in range(6):
        prompt = [start, *PROMPTS[0]]
        completion = one.add(Request(ids=prompt, max_new_tokens=3))
        list(one.run())
        assert completion.ids == greedy(runner.model, prompt, 3)
        assert one.nbytes <= one.memory
    assert one.nbytes > one.memory // 2


# ------------------------------------------------------------------ prefixes


@pytest.mark.parametrize("name", MODELS)
def test_what_requests_share_is_read_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, fed, one = model_of(name), Fed(monkeypatch), scheduler(name, prefixes=4, slack=64)
    recurrent = one.runner.sequence(1).recurrent
    system = PROMPTS[0]

    def ask(*rest: int) -> int:
        fed.counts.clear()
        completion = one.add(Request(ids=[*system, *rest], max_new_tokens=2))
        while not completion.finish:
            one.step()
        assert completion.ids == greedy(model, [*system, *rest], 2)
        assert one.running or completion.timing.reused == len(system) + len(rest) + 1 - sum(fed.counts)
        return completion.timing.reused

    assert ask(1, 2, 3) == 0
    assert ask(4, 5, 6) == (0 if recurrent else 13), "a snapshot is taken where they part"
    assert ask(7, 8) == 13
    assert ask(1, 2, 3, 30, 31) == 16, "the first is still there"
    running = one.add(Request(ids=[*system, 50, 51], max_new_tokens=20))
    one.step()
    assert ask(50, 51, 52, 53) == 15, "also from one that is at work"
    list(one.run())
    assert running.ids == greedy(model, [*system, 50, 51], 20)


def test_the_length_of_what_two_texts_share() -> None:
    choose = Random(0)
    for _ in range(200):
        a, b = ([choose.randrange(2) for _ in range(choose.randrange(9))] for _ in range(2))
        wanted = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        assert shared(a, b) == wanted


# ------------------------------------------------------------------ interruptions


class Interrupt:
    """Raises KeyboardInterrupt when it is called for the nth time."""

    def __init__(self, call: Callable[..., Any], nth: int) -> None:
        self.call, self.left = call, nth

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.call(*args, **options)


@pytest.mark.parametrize("name", MODELS)
def test_an_interrupted_step_leaves_everything_consistent(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any layer, and while tokens are chosen; in prompts and between new tokens."""
    model = model_of(name)
    wanted = [greedy(model, prompt, 5) for prompt in PROMPTS]
    last = model.layers[-1]
    for nth in (1, 2, 3, 5, 6, 11):
        for owner, method in ((last, "forward"), (Sampler, "choose")):
            one = scheduler(name, step_tokens=8, prefixes=2)
            got = [one.add(Request(ids=prompt, max_new_tokens=5)) for prompt in PROMPTS]
            interrupted = False
            with monkeypatch.context() as patch:
                interrupt = Interrupt(getattr(owner, method), nth)
                patch.setattr(owner, method, interrupt if owner is last else lambda *a, call=interrupt: call(*a))
                try:
                    list(one.run())
                except KeyboardInterrupt:
                    interrupted = True
            assert interrupted or nth > 6
            list(one.run())
            assert [completion.ids for completion in got] == wanted, (nth, method)


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("begun", [False, True])
def test_an_interrupted_session_of_a_recurrent_model_does_not_rely_on_its_state(
    name: str, begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompt = model_of(name), PROMPTS[0]
    session = Session(model)
    if begun:
        assert list(session.stream(prompt, 3)) == greedy(model, prompt, 3)
    longer = [*prompt, *greedy(model, prompt, 2), 8, 9]
    with monkeypatch.context() as patch:
        patch.setattr(model.layers[-1], "forward", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            list(session.stream(longer, 4))
    assert list(session.stream(longer, 4)) == greedy(model, longer, 4), "the states of some layers had gone on"


# ------------------------------------------------------------------ look-up


def test_a_guess_is_what_followed_last_time() -> None:
    lookup = Lookup()
    assert lookup.guess([1, 2, 3, 4], 3) == []
    assert lookup.guess([1, 2, 3, 4, 1, 2], 3) == [3, 4, 1]
    assert lookup.guess([1, 2, 3, 4, 1, 2, 9, 5, 1, 2], 2) == [9, 5], "the latest place"
    assert lookup.guess([1, 2, 3, 4, 1, 2, 9, 5, 1, 2, 3], 2) == [4, 1], "the longest run"


@pytest.mark.parametrize("name", MODELS)
def test_look_up_writes_the_same_in_fewer_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt, fed = PROMPTS[0], Fed(monkeypatch)
    plain = alone(name, Request(ids=prompt, max_new_tokens=20))
    steps = len(fed.counts)
    repeats = [*prompt, *plain.ids, *prompt]  # so that what it wrote before is found, if it writes it again

    def repeat(ids: Sequence[int], logits: NDArray[np.floating]) -> NDArray[np.floating]:
        """What a model does that copies: the token that stood here in the first part."""
        wanted = (prompt + plain.ids)[len(ids) - len(repeats) + len(prompt)]
        return np.where(np.arange(len(logits)) == wanted, logits + 100, logits)

    request = Request(ids=repeats, max_new_tokens=12, processors=[repeat], sampler=Sampler(temperature=0.5, seed=3))
    without = alone(name, request)
    fed.counts.clear()
    one = scheduler(name)
    guessed = one.add(replace(request, lookup=4))
    list(one.run())
    assert guessed.ids == without.ids == plain.ids[:12]
    assert guessed.timing.accepted > 6
    assert len(fed.counts) < steps // 3
    assert guessed.timing.guessed >= guessed.timing.accepted


def test_guesses_pause_where_they_are_mostly_wrong() -> None:
    payoff = Payoff()
    for _ in range(LATEST // 3 - 1):
        assert payoff.pays()
        payoff.told(3, 0)
    assert payoff.pays(), "too few to judge"
    payoff.told(3, 1)
    assert [payoff.pays() for _ in range(PAUSE)] == [False] * (PAUSE - 1) + [True]
    for _ in range(40):
        payoff.told(3, 1)
        assert payoff.pays(), "a third of them is enough"


# ------------------------------------------------------------------ drafts


@pytest.mark.parametrize("name", ["deepseek_v3", "mimo", "qwen3_next"])
def test_drafts_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Greedy or sampled, with prompts that are shared, in company and with little memory; and they are the modules'."""
    monkeypatch.setattr("vitruvius.inference.scheduler.AHEAD", 4)
    runner = TorchRunner(drafting.model_of(name))
    asked = [
        Request(ids=[*PROMPTS[0], i], max_new_tokens=12, eos=(), sampler=Sampler(temperature=0.8 * (i % 2), seed=i))
        for i in range(4)
    ]
    wanted = []
    for request in asked:
        one = Scheduler(runner)
        wanted.append(one.add(request))
        list(one.run())
    memory = 3 * runner.sequence_bytes(64, DRAFTS, 8, draft=True)
    several = Scheduler(runner, draft=True, prefixes=2, max_running=2, memory=memory)
    drafted, draft = [], runner.model.draft

    def noted(entries: Any, count: int) -> list[list[int]]:
        entries = list(entries)
        assert all(sequence.length for sequence, _ in entries)
        drafted.append(draft(entries, count))
        return drafted[-1]

    monkeypatch.setattr(runner.model, "draft", noted)
    got = [several.add(replace(request, draft=3)) for request in asked]
    while not several.idle:
        several.step()
        assert several.nbytes <= several.reserved <= memory
    assert [completion.ids for completion in got] == [completion.ids for completion in wanted]
    assert sum(completion.timing.guessed for completion in got) > 12
    assert len(drafted) > 3


def test_right_drafts_save_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = TorchRunner(drafting.model_of("deepseek_v3"))
    request = Request(ids=PROMPTS[0], max_new_tokens=17, eos=(), sampler=Sampler(temperature=0.7, seed=5))
    plain = Scheduler(runner)
    wanted = plain.add(request)
    list(plain.run())
    text = [*PROMPTS[0], *wanted.ids]

    def oracle(entries: Any, count: int) -> list[list[int]]:
        return [text[sequence.length + 1 : sequence.length + 1 + count] for sequence, _ in entries]

    monkeypatch.setattr(runner, "draft", oracle)
    one, steps = Scheduler(runner, draft=True), 0
    got = one.add(replace(request, draft=3))
    while not one.idle:
        one.step()
        steps += 1
    assert got.ids == wanted.ids
    assert (steps, got.timing.guessed, got.timing.accepted) == (5, 12, 12), "the prompt, then four tokens a step"
    with pytest.raises(InputError, match="gemma3_text has no layers for multi-token prediction to draft with"):
        scheduler("gemma3", draft=True)


# ------------------------------------------------------------------ the native engine


@pytest.fixture(scope="module", params=["mistral_window", "nemotron_h"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("native")
    vt.save(model_of(request.param), folder)
    return vt.engine(folder, weights="f32", threads=1)


def test_the_native_engine_writes_the_same_in_any_company(engine: Any) -> None:
    asked = requests(16)
    wanted = []
    for request in asked:
        one = Scheduler(engine)
        wanted.append(one.add(request))
        list(one.run())
    several = Scheduler(engine, step_tokens=9, max_running=7, prefixes=2, slack=8)
    got = [several.add(request) for request in asked]
    list(several.run())
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.ids == theirs.ids
        assert [token.logprob for token in ours.tokens] == pytest.approx([t.logprob for t in theirs.tokens], abs=1e-4)


def test_the_native_engines_memory_is_never_exceeded(engine: Any) -> None:
    price = engine.sequence_bytes(1024, 8, 8)
    several = Scheduler(engine, memory=int(2.5 * price), prefixes=4, slack=8, step_tokens=9)
    got = [several.add(request) for request in requests(12)]
    while not several.idle:
        several.step()
        assert several.nbytes <= several.memory
    assert all(completion.finish in ("eos", "length") for completion in got)
    assert several.nbytes > price // 2


def test_sequences_of_the_native_engine_grow(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitruvius.inference.scheduler.AHEAD", 8)
    asked = [
        Request(ids=[i, 5, 6], max_new_tokens=150, eos=(), sampler=Sampler(temperature=1.0, seed=i)) for i in range(4)
    ]
    wanted = []
    for request in asked:
        one = Scheduler(engine)
        wanted.append(one.add(request))
        list(one.run())
    several = Scheduler(engine, memory=int(1.6 * engine.sequence_bytes(192, 0, 8, most=1024)), prefixes=2)
    got = [several.add(request) for request in asked]
    while not several.idle:
        several.step()
        assert several.nbytes <= several.reserved <= several.memory
    assert several.preempted > 0
    assert [completion.ids for completion in got] == [completion.ids for completion in wanted]


@pytest.mark.parametrize("capacity", [5, 40, 70, 150])
def test_the_bytes_of_a_sequence_are_known_before(engine: Any, capacity: int) -> None:
    """So that memory can be promised."""
    sequence = engine.sequence(capacity, slack=3)
    for at in range(0, capacity, 5):
        engine.step([(sequence, [1] * 5, "none")])
        if at in (0, 20):
            sequence.snapshot()
    snapshots = 2 if capacity > 25 else 1
    same = capacity == 5  # the only snapshot is of what the sequence holds now, and shares its memory
    assert sequence.nbytes == engine.sequence_bytes(capacity, 3, snapshots - same)
