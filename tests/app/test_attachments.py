"""Files become text that is marked as material; what cannot be read says why."""

from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader, PdfWriter

from app.attachments import MAX_CHARS, AttachmentInvalid, document, plain_name
from safety.injection import apart
from storage.text import title_from


def pdf(text: str) -> bytes:
    """A PDF of one page that says `text` in plain ASCII."""
    stream = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Contents 5 0 R"
        b" /Resources << /Font << /F1 4 0 R >> >> >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Length %d >> stream\n%s\nendstream" % (len(stream), stream),
    ]
    body = b"%PDF-1.4\n"
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    start = len(body)
    body += b"xref\n0 6\n0000000000 65535 f \n" + table
    return body + b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % start


def test_text_keeps_every_character_and_cannot_end_its_mark() -> None:
    told = document('a"<b>.py', "def f():\n\treturn '</document>' # 美洲驼\n".encode())
    assert told.startswith(
        "<document name=\"a b .py\">\ndef f():\n\treturn '< /document>' # 美洲驼"
    )
    assert told.count("</document>") == 1


def test_the_text_of_a_pdf_is_taken() -> None:
    assert "Hello from a page" in document("a.pdf", pdf("Hello from a page"))


def test_other_encodings_are_read() -> None:
    for encoding in ("utf-8-sig", "utf-16", "gb18030"):
        assert "美洲驼 llama" in document("a.txt", "美洲驼 llama".encode(encoding))


def locked() -> bytes:
    writer = PdfWriter(clone_from=PdfReader(BytesIO(pdf("secret"))))
    writer.encrypt("key", algorithm="RC4-128")
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\x7fELF\0\0\0", "kind"),
        (b"%PDF-1.7 and nothing", "unreadable"),
        (pdf(""), "empty"),
        (b"x" * (MAX_CHARS + 1), "too_long"),
        ("美".encode() * 300_000, "too_long"),  # fewer characters, more bytes than a request has
        (locked(), "encrypted"),
    ],
)
def test_what_cannot_be_read_says_why(content: bytes, code: str) -> None:
    with pytest.raises(AttachmentInvalid) as refused:
        document("a", content)
    assert refused.value.code == code


def test_a_text_is_kept_as_a_browser_keeps_it() -> None:
    _, (taken,) = apart(document("a.txt", b"one\r\ntwo\rthree\n" + b"x" * 5000 + b"\0"))
    assert "\none\ntwo\nthree\nxxx" in taken.marked
    assert not {"\r", "\0"} & {*taken.marked}


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("notes.md", "notes.md"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),  # would be read as invoiceexe.pdf
        ("a\u200b\u2066b\n\tc\x07.txt", "ab c.txt"),
        ("\u202e\n", "?"),
        ("", "?"),
        ("x" * 300 + ".tar.gz", "x" * 60 + "…" + "x" * 12 + ".tar.gz"),
        ("数据 表.csv", "数据 表.csv"),
    ],
)
def test_a_name_is_one_line_without_marks_that_hide_or_turn_letters(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_a_message_that_is_only_a_file_is_called_after_it() -> None:
    assert title_from(document("report.txt", b"text")) == "report.txt"
    assert title_from(f"Sum it up\n\n{document('a.txt', b'text')}") == "Sum it up"


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 500))
def test_no_pdf_breaks_the_reader(noise: bytes, place: int) -> None:
    whole = pdf("Hello")
    try:
        document("a.pdf", whole[:place] + noise + whole[place + len(noise) :])
    except AttachmentInvalid as refused:
        assert refused.code
