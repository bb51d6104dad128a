"""Checkpoints: the published format, and only what somebody trusted signed is believed."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podctl.evidence.note import Checkpoint, NoteProblem, read_note, sign_note
from podctl.signing import PublicKey, SigningKey

KEY = SigningKey(bytes(range(32)))

#: The example of golang.org/x/mod/sumdb/note.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_a_note_that_go_signed() -> None:
    key = PublicKey(base64.b64decode(GO_KEY.split("+", 2)[2])[1:])
    note = read_note(GO_NOTE.encode())
    assert note.signatures[0][1].hex() == GO_KEY.split("+")[1]
    assert note.signers([KEY.public, key]) == [key]
    assert read_note(GO_NOTE.replace("don't", "do").encode()).signers([key]) == []


def test_a_checkpoint_reads_as_the_format_says() -> None:
    checkpoint = Checkpoint("podctl.example/log/7", 20, bytes(range(32)))
    text = sign_note(checkpoint.text, checkpoint.origin, KEY)
    lines = text.split("\n")
    assert lines[:4] == ["podctl.example/log/7", "20", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", ""]
    assert lines[4].startswith("— podctl.example/log/7 ") and text.endswith("\n")
    note = read_note(text.encode())
    assert note.signers([KEY.public]) == [KEY.public] and Checkpoint.of(note.text) == checkpoint
    assert Checkpoint.of(checkpoint.text + "an extension\n") == checkpoint


@given(st.integers(0, 400), st.integers(0, 255))
def test_no_changed_byte_is_believed(at: int, value: int) -> None:
    checkpoint = Checkpoint("podctl.example/log/7", 20, bytes(range(32)))
    content = bytearray(sign_note(checkpoint.text, checkpoint.origin, KEY).encode())
    at %= len(content)
    changed = content[at] != value
    content[at] = value
    try:
        note = read_note(bytes(content))
        believed = bool(note.signers([KEY.public])) and Checkpoint.of(note.text) == checkpoint
    except NoteProblem:
        believed = False
    assert believed is not changed


@given(st.binary(max_size=400) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_a_note_or_a_plain_problem(content: bytes) -> None:
    for whole in (content, content + b"\n\n\xe2\x80\x94 a aaaaaaaaaaaa\n"):
        try:
            note = read_note(whole)
            assert note.signers([KEY.public]) == []
            Checkpoint.of(note.text)
        except NoteProblem:
            pass


@pytest.mark.parametrize("size", ["-1", "01", "1.0", " 1", "1e3", "٣", "", "9" * 17])
def test_a_size_is_a_plain_number(size: str) -> None:
    with pytest.raises(NoteProblem):
        Checkpoint.of(f"log\n{size}\n{base64.b64encode(bytes(32)).decode()}\n")


@pytest.mark.parametrize("name", ["", "two words", "a+b", "new\nline"])
def test_a_signers_name_that_would_break_the_line_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="signer's name"):
        sign_note("text\n", name, KEY)


def test_many_signatures_and_large_notes_are_bounded() -> None:
    line = sign_note("a\n", "x", KEY).split("\n")[2]
    for content in ("a\n\n" + f"{line}\n" * 33, "a" * 20_000 + f"\n\n{line}\n"):
        with pytest.raises(NoteProblem):
            read_note(content.encode())
