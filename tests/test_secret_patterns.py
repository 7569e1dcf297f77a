"""Only optimize.secrets has patterns of passwords, tokens and other secrets."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Words and signs of a pattern that looks for secrets: their names, and the user of a URL.
SECRET_WORDS = re.compile(r"passw|secret|token|api.{0,2}key|credential|://|eyJ", re.IGNORECASE)


def secret_patterns(source: str) -> list[str]:
    """Return the regular expressions of a module that look for secrets."""
    tree = ast.parse(source)
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "re"
        for alias in node.names
    }
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        of_re = isinstance(called, ast.Attribute) and ast.unparse(called.value) == "re"
        if of_re or (isinstance(called, ast.Name) and called.id in names):
            texts = [
                each.value
                for part in node.args[:1]
                for each in ast.walk(part)
                if isinstance(each, ast.Constant)
            ]
            found += [text for text in texts if isinstance(text, str) and SECRET_WORDS.search(text)]
    return found


def test_no_module_but_secrets_has_a_pattern_of_secrets() -> None:
    secrets = ROOT / "optimize" / "secrets.py"
    modules = [path for package in ("envs", "optimize") for path in sorted((ROOT / package).rglob("*.py"))]
    found = {path: secret_patterns(path.read_text(encoding="utf-8")) for path in modules}
    assert found.pop(secrets)
    assert {str(path): patterns for path, patterns in found.items() if patterns} == {}


def test_patterns_of_secrets_are_found() -> None:
    source = """
import re
from re import compile as made, sub
A = re.compile(r"(password|token)=")
B = made(f"{A}://[^@]+@")
sub("api_key", "", "")
C = re.compile(r"[0-9]+")
print("password")
"""
    assert secret_patterns(source) == ["(password|token)=", "://[^@]+@", "api_key"]
