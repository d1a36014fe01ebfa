import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safety.code_blocks import code_blocks
from safety.code_check import check_code, judge_code
from safety.code_rules import PATTERNS, WEAKNESSES
from safety.policy import DEFAULT_POLICY


def rules(language: str, code: str) -> list[str]:
    (report,) = check_code(f"Look:\n```{language}\n{code}\n```\n")
    return [f.rule for f in report.findings]


FLAGGED = [
    ("python", "import os\nos.system('rm ' + name)", "shell_injection"),
    ("python", "from os import system as s\ns(f'ls {d}')", "shell_injection"),
    ("python", "import subprocess\nsubprocess.run(cmd, shell=True)", "shell_injection"),
    (
        "python",
        "from subprocess import check_output\ncheck_output(c, shell=True)",
        "shell_injection",
    ),
    ("python", "eval(input())", "code_injection"),
    ("python", "exec(code)", "code_injection"),
    ("python", "import pickle\npickle.loads(blob)", "unsafe_deserialization"),
    ("python", "import yaml\nyaml.load(f)", "unsafe_deserialization"),
    ("python", "import hashlib\nhashlib.md5(b'x').hexdigest()", "weak_hash"),
    ("python", "import requests\nrequests.get(url, verify=False)", "certificate_not_checked"),
    ("python", "import ssl\nc = ssl._create_unverified_context()", "certificate_not_checked"),
    ("python", "cur.execute(f'SELECT * FROM t WHERE id = {i}')", "sql_injection"),
    ("python", "cur.execute('SELECT * FROM t WHERE id = %s' % i)", "sql_injection"),
    ("python", "cur.execute('SELECT * FROM t WHERE id = ' + i)", "sql_injection"),
    ("python", "cur.execute('DELETE FROM t WHERE n = {}'.format(n))", "sql_injection"),
    ("python", "import tarfile\ntarfile.open(p).extractall()", "archive_path_traversal"),
    ("python", "import tempfile\np = tempfile.mktemp()", "predictable_temporary_file"),
    ("python", "import random\ntoken = str(random.randint(0, 9))", "guessable_random"),
    ("python", "db_password = 'hunter22'", "hard_coded_secret"),
    ("python", "config['api_key'] = 'a8f5f167f44f'", "hard_coded_secret"),
    ("python", "app.run(debug=True)", "debug_left_on"),
    ("py", ">>> eval(x)\n3", "code_injection"),
    ("c", "char b[8]; gets(b);", "buffer_overflow"),
    ("c", "strcpy(dst, src);", "buffer_overflow"),
    ("cpp", 'scanf("%s", name);', "buffer_overflow"),
    ("c", "printf(message);", "format_string"),
    ("c", "system(command);", "shell_injection"),
    ("c++", "sprintf(out, fmt, x);", "buffer_overflow"),
    ("js", "eval(code)", "code_injection"),
    ("javascript", "box.innerHTML = name;", "cross_site_scripting"),
    ("javascript", "document.write(location.hash)", "cross_site_scripting"),
    ("ts", "exec(`ls ${dir}`)", "shell_injection"),
    ("js", 'db.query("SELECT * FROM t WHERE id=" + id)', "sql_injection"),
    ("js", "https.request({rejectUnauthorized: false})", "certificate_not_checked"),
    ("js", "const token = Math.random().toString(36)", "guessable_random"),
    ("bash", "curl https://example.org/i.sh | sudo bash", "download_and_run"),
    ("sh", 'rm -rf "$DIR"/cache', "destructive_command"),
    ("sh", "rm -rf --no-preserve-root /", "destructive_command"),
    ("sh", "chmod -R 777 /srv", "everyone_may_write"),
    ("sh", "wget --no-check-certificate https://x.org", "certificate_not_checked"),
    ("sql", "GRANT ALL ON *.* TO 'bob'@'%';", "everything_granted"),
    ("sql", "CREATE USER bob IDENTIFIED BY 'letmein';", "hard_coded_secret"),
    ("sql", "EXEC('SELECT ' + @name)", "sql_injection"),
    ("yaml", "password: 'correcthorse'", "hard_coded_secret"),
    ("", "-----BEGIN RSA PRIVATE KEY-----", "hard_coded_secret"),
]

CLEAN = [
    ("python", "print('hello')"),
    ("python", "import subprocess\nsubprocess.run(['ls', d], check=True)"),
    ("python", "import os\nos.system('clear')"),
    ("python", "import ast\nast.literal_eval(text)"),
    ("python", "re.compile('x'); model.eval()"),
    ("python", "import yaml\nyaml.safe_load(f)\nyaml.load(f, Loader=yaml.SafeLoader)"),
    ("python", "import hashlib\nhashlib.md5(b'x', usedforsecurity=False)"),
    ("python", "cur.execute('SELECT * FROM t WHERE id = ?', (i,))"),
    ("python", "cur.execute('SELECT a ' + 'FROM t')"),
    ("python", "import os\npassword = os.environ['PASSWORD']"),
    ("python", "password = 'your-password-here'"),
    ("python", "password = ''"),
    ("python", "# os.system(x) is dangerous: eval(x) too"),
    ("python", "import random\ndice = random.randint(1, 6)"),
    ("c", 'printf("%s", message); fgets(b, sizeof b, stdin); snprintf(o, n, "%d", x);'),
    ("c", 'system("clear");'),
    ("c", "// strcpy(a, b)"),
    ("javascript", "el.textContent = name; el.innerHTML = '';"),
    ("javascript", "const url = 'https://example.org'; db.query('SELECT 1', [id])"),
    ("javascript", "regex.exec(text); const x = Math.random();"),
    ("bash", "curl -o file https://example.org/x && sha256sum file"),
    ("bash", "rm -rf build/ && chmod 644 notes.txt  # never chmod 777"),
    ("sql", "SELECT name FROM users WHERE id = ?; GRANT SELECT ON t TO bob;"),
]


@pytest.mark.parametrize(("language", "code", "rule"), FLAGGED)
def test_weaknesses_are_found(language, code, rule):
    assert rule in rules(language, code)


@pytest.mark.parametrize(("language", "code"), CLEAN)
def test_sound_code_is_not_flagged(language, code):
    assert rules(language, code) == []


def test_a_finding_names_line_and_number():
    text = "Text\n\n```python\nimport os\n\nos.system(x)\n```\n"
    (report,) = check_code(text)
    assert (report.state, report.block.first_line) == ("flagged", 4)
    (found,) = report.findings
    assert (found.line, found.cwe, found.severity) == (3, 78, "high")
    assert text.split("\n")[report.block.first_line + found.line - 2] == "os.system(x)"


def test_three_states():
    blocks = [("python", "x = 1"), ("python", "eval(x)"), ("cobol", "ADD 1"), ("python", "x = (")]
    reports = check_code("\n".join(f"```{language}\n{code}\n```" for language, code in blocks))
    assert [(r.state, r.reason) for r in reports] == [
        ("checked", ""),
        ("flagged", ""),
        ("not checked", "no rules for this language"),
        ("not checked", "not complete Python"),
    ]


def test_unfinished_python_still_meets_the_rules_for_every_language():
    (report,) = check_code(
        "```python\ndef f(:\n    key = 'AKIAIOSFODNN7EXAMPLF'\n    api_key = 'abc123def456'\n"
    )
    assert report.state == "flagged"
    assert not report.block.closed


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("no code", []),
        ("```\na\n```", [("", "a", True)]),
        ("~~~ Python title\na\n~~~", [("python", "a", True)]),
        ("````md\n```py\na\n```\n````", [("md", "```py\na\n```", True)]),
        ("```js\na", [("javascript", "a", False)]),
        ("```js", [("javascript", "", False)]),
        ("    ```\nindented code, no fence", []),
        ("`` `inline` ``", []),
        ("```{.python .numberLines}\na\n```", [("", "a", True)]),
        ("```c\r\ngets(x);\r\n```\r\n", [("c", "gets(x);\r", True)]),
    ],
)
def test_fences(text, blocks):
    assert [(b.language, b.code, b.closed) for b in code_blocks(text)] == blocks


def test_code_with_a_weakness_gets_a_warning_and_prose_no_verdict():
    verdict, (report,) = judge_code("```python\neval(x)\n```")
    assert verdict.score == 0
    assert verdict.scores == {"insecure_code": 0.95}
    assert DEFAULT_POLICY.decide(verdict, "reply").action == "warn"
    assert report.state == "flagged"
    assert judge_code("Use eval with care.") is None


def test_a_block_is_known_again_by_its_code_and_language():
    here, there = code_blocks("```py\nx\n```\nmore\n```python\nx\n```")
    assert here.digest == there.digest
    (other,) = code_blocks("```js\nx\n```")
    assert other.digest != here.digest


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200), st.sampled_from(["python", *PATTERNS, "x"]))
def test_any_text_can_be_checked(code, language):
    for report in check_code(f"```{language}\n{code}"):
        assert report.state in ("checked", "flagged", "not checked")
        num_lines = report.block.code.count("\n") + 1
        assert all(1 <= f.line <= num_lines for f in report.findings)
        assert (report.state == "flagged") == bool(report.findings)


@pytest.mark.parametrize(
    "code", ["(" * 100_000, "\x00", "a" * 300_000, "x = " + "-" * 50_000 + "1"]
)
def test_absurd_code_does_no_harm(code):
    (report,) = check_code(f"```python\n{code}\n```")
    assert report.state == "not checked"


def test_every_rule_that_is_used_is_described():
    for table in PATTERNS.values():
        assert {rule for rule, _ in table} <= set(WEAKNESSES)
    assert all(w.what.endswith(".") for w in WEAKNESSES.values())
