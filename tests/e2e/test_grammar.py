"""Answers held to schemas and grammars, as users ask for them."""
import json, re
import pytest
from conftest import ingot

SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 130},
                                           "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "maxItems": 2}},
          "required": ["name", "age"], "additionalProperties": False}


def fits(v):
    assert set(v) <= {"name", "age", "tags"} and isinstance(v["name"], str) and len(v["name"]) <= 12
    assert type(v["age"]) is int and 0 <= v["age"] <= 130
    assert all(t in ("red", "green") for t in v.get("tags", [])) and len(v.get("tags", [])) <= 2


@pytest.fixture
def schema(tmp_path):
    path = tmp_path / "person.json"
    path.write_text(json.dumps(SCHEMA))
    return path


@pytest.mark.parametrize("temperature", [1, 2, 5])
def test_a_tiny_model_writes_json(tiny, schema, temperature):
    r = ingot("run", tiny, "hi", "--schema", schema, "--temperature", temperature, "--seed", 3, "--json", "-n", 400)
    answer = json.loads(r.stdout)
    assert r.returncode == 0 and answer["finish_reason"] == "stop", r.stderr
    fits(json.loads(answer["text"]))


def test_the_default_model_writes_json(default_model, schema):
    for seed in range(3):
        r = ingot("run", "default", "Describe a person as JSON.", "--schema", schema, "--seed", seed, "-n", 200, "-q")
        assert r.returncode == 0, r.stderr
        fits(json.loads(r.stdout))


def test_regex_and_grammars(tiny, tmp_path):
    r = ingot("run", tiny, "hi", "--regex", "[0-9]{3}-(yes|no)", "-q")
    assert re.fullmatch("[0-9]{3}-(yes|no)\n", r.stdout), r.stderr
    for name, text in ("list.gbnf", 'root ::= ("- " [a-z]{1,5} "\\n"){2}'), ("list.lark", 'start: ("- " W "\\n"){2}\nW: /[a-z]{1,5}/'):
        (tmp_path / name).write_text(text)
        r = ingot("run", tiny, "hi", "--grammar", tmp_path / name, "-q")
        assert re.fullmatch("(- [a-z]{1,5}\n){2}\n", r.stdout), r.stderr


def test_schema_answers_line_by_line(schema):
    lines = ['{"name": "A", "age": 7}', '{"name": "A"', '{"age": 1}', ""]
    r = ingot("schema", "--schema", schema, "--jsonl", stdin="".join(json.dumps(l) + "\n" for l in lines) + "5\n")
    assert [json.loads(l) for l in r.stdout.splitlines()[:4]] == [
        {"accepted": True, "complete": True, "at": 23}, {"accepted": True, "complete": False, "at": 12},
        {"accepted": False, "complete": False, "at": 2}, {"accepted": True, "complete": False, "at": 0}]
    assert "JSON string" in json.loads(r.stdout.splitlines()[4])["error"] and r.returncode == 1


@pytest.mark.parametrize("text, words", [('{"type": "text"}', "#/type"), ('{"properties": {"a/b": {"uniqueItems": true}}}', "#/properties/a~1b/uniqueItems"),
                                         ("{", "line 1"), ("false", "no text")])
def test_a_bad_schema_is_named(tiny, tmp_path, text, words):
    path = tmp_path / "bad.json"
    path.write_text(text)
    for command in ("schema", "--jsonl"), ("run", tiny, "hi"):
        r = ingot(*command, "--schema", path, stdin="")
        assert r.returncode == 4 and words in r.stderr and not r.stdout, r.stderr


def test_wrong_use(tmp_path):
    assert ingot("schema", "--regex", "a", "--grammar", "b.gbnf", "--jsonl", stdin="").returncode == 2
    assert ingot("schema", "--jsonl", stdin="").returncode == 2
    assert ingot("schema", "--grammar", tmp_path / "none.gbnf", "--jsonl", stdin="").returncode == 4
    assert ingot("schema", "--grammar", tmp_path / "none.txt", "--jsonl", stdin="").returncode == 4
