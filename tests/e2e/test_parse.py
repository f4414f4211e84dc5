"""ingot parse: dialects by name, template and model, lines, deltas, errors."""
import json, subprocess
import pytest
from conftest import INGOT, ROOT, write_tiny

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"s": {"type": "string"}}}}}]
HERMES = ('{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>\n{{ c.function | tojson }}\n</tool_call>{% endfor %}{% endfor %}')
CALL = '<tool_call>\n{"name": "f", "arguments": {\n "s": "x"\n}}\n</tool_call>'


def parse(*args, text="", code=0):
    r = subprocess.run([INGOT, "parse", *args], input=text.encode(), capture_output=True, timeout=60)
    assert r.returncode == code, r.stderr
    return r.stdout.decode(), r.stderr.decode()


def lines(cases, *args, code=0):
    out, _ = parse("--jsonl", *args, text="".join(json.dumps(c) + "\n" for c in cases), code=code)
    return [json.loads(line) for line in out.splitlines()]


def test_one_output():
    out, _ = parse("--dialect", "hermes", text="<think>r</think>Hi\n" + CALL + "<|im_end|>")
    assert out.count("\n") == 1
    answer = json.loads(out)
    assert (answer["reasoning"], answer["content"], answer["warnings"]) == ("r", "Hi", [])
    (call,) = answer["tool_calls"]
    assert (call["name"], call["arguments"], len(call["id"])) == ("f", {"s": "x"}, 9)


def test_dialects_are_listed_and_named():
    names = parse("--list-dialects")[0].split()
    assert names == sorted(names) and len(names) == 52 and "hermes" in names
    assert "--list-dialects" in parse("--dialect", "klingon", code=2)[1]
    assert "needs a MODEL" in parse(code=2)[1]


def test_template_and_model_choose(tmp_path):
    template = tmp_path / "t.jinja"
    template.write_text(HERMES)
    out, err = parse("-v", "--template", str(template), text=CALL)
    assert "hermes" in err and "<tool_call>" in err and len(json.loads(out)["tool_calls"]) == 1
    folder = tmp_path / "model"
    folder.mkdir()
    write_tiny(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": HERMES}))
    assert json.loads(parse(str(folder), text=CALL)[0])["tool_calls"][0]["name"] == "f"
    assert lines([{"output": CALL, "template": str(template)}])[0]["tool_calls"]


def test_vocabulary_chooses_where_no_template_tells(tmp_path):
    write_tiny(tmp_path)
    assert "bare_json" in parse("-v", str(tmp_path), text=CALL)[1]
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append(dict(id=258, content="<tool_call>", special=False, normalized=False))
    tokenizer["model"]["vocab"]["<tool_call>"] = 258
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    out, err = parse("-v", str(tmp_path), text=CALL)
    assert "hermes: the vocabulary has <tool_call>" in err and json.loads(out)["tool_calls"]


def test_tools_file(tmp_path):
    bare = '{"name": "f", "arguments": {}}'
    assert json.loads(parse("--dialect", "bare_json", text=bare)[0])["content"] == bare
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps(TOOLS))
    answer = json.loads(parse("--dialect", "bare_json", "--tools", str(tools), text=bare)[0])
    assert answer["content"] == "" and answer["tool_calls"][0]["arguments"] == {}
    tools.write_text("{}")
    assert "must be a list" in parse("--dialect", "bare_json", "--tools", str(tools), text=bare, code=2)[1]


def test_lines_do_not_stop_each_other():
    cases = [{"output": CALL, "dialect": "hermes"}, {"output": 1, "dialect": "hermes"}, {"output": "x"}, {"dialect": "hermes"}, [],
             {"pieces": ["<tool", "_call>{\"na", "me\": \"f\"}</tool_call>"], "dialect": "hermes"},
             {"output": "x", "dialect": "hermes", "tools": {}}, {"output": "x", "dialect": "klingon"}, {"output": "x", "dialect": "hermes", "pieces": [1]}]
    got = lines(cases, code=1)
    assert ["error" in g for g in got] == [False, True, True, True, True, False, True, True, True]
    assert got[5]["tool_calls"][0]["arguments"] == {}
    assert '"dialect" or "template"' in got[2]["error"] and "item 0" in got[8]["error"]


def test_prompt_tail_and_finish_reason():
    case = {"output": "r</think>x<tool_call>{\"na", "dialect": "hermes", "prompt_tail": "assistant\n<think>\n", "finish_reason": "length"}
    (got,) = lines([case])
    assert (got["reasoning"], got["content"], got["tool_calls"]) == ("r", "x", [])
    assert got["warnings"] == [{"kind": "truncated", "text": '<tool_call>{"na'}]
    (got,) = lines([case | {"finish_reason": "stop"}])
    assert got["content"] == 'x<tool_call>{"na' and got["warnings"][0]["kind"] == "malformed"


def test_deltas():
    (got,) = lines([{"output": "<think>r</think>Hi " + CALL + CALL, "dialect": "hermes"}], "--deltas")
    assert got[0] == {"reasoning_content": "r"} and got[1] == {"content": "Hi"}
    calls = [d["tool_calls"][0] for d in got[2:]]
    first = [c for c in calls if "id" in c]
    assert [c["index"] for c in first] == [0, 1] and all(c["type"] == "function" and c["function"] == {"name": "f", "arguments": ""} for c in first)
    for index in (0, 1):
        joined = "".join(c["function"]["arguments"] for c in calls if c["index"] == index)
        assert joined == '{\n "s": "x"\n}'      # the model's own bytes


TEMPLATE = {"start_anchor": "<|a|>", "fields": {
    "thinking": {"open": "<mull>", "close": "</mull>"}, "content": {},
    "tool_calls": {"open_pattern": r"<do (?P<name>\w+)>", "close": "</do>", "repeats": True, "content": "json",
                   "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}}}}}
DECLARED = "<mull>r</mull>Hi\n<do f>{\"s\": \"x\"}</do>"


def declare(folder, **declaration):
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": HERMES, **declaration}))
    return str(folder)


def test_a_model_declares_how_its_answers_are_read(tmp_path):
    model = declare(tmp_path, response_template=TEMPLATE)
    out, said = parse("-v", model, text=DECLARED)
    got = json.loads(out)
    assert got["reasoning"] == "r" and got["content"] == "Hi" and got["tool_calls"][0]["arguments"] == {"s": "x"}
    assert "response_template" in said and "declares" in said
    assert json.loads(parse(model, "--dialect", "hermes", text=DECLARED)[0])["content"] == DECLARED
    deltas = json.loads(parse(model, "--deltas", text=DECLARED)[0])
    assert [next(iter(d)) for d in deltas] == ["reasoning_content", "content", "tool_calls", "tool_calls"]


def test_a_declaration_that_cannot_be_followed_is_warned_of(tmp_path):
    model = declare(tmp_path, response_template={**TEMPLATE, "fields": {"content": {"open_pattern": "("}}})
    out, said = parse(model, text="Hi\n" + CALL)
    assert "response_template.fields.content.open_pattern" in said and "hermes" in said
    assert json.loads(out)["tool_calls"][0]["name"] == "f"


def test_the_older_schema(tmp_path):
    schema = {"type": "object", "properties": {"thinking": {"type": "string", "x-regex": "<mull>(.*?)</mull>"}}}
    got = json.loads(parse(declare(tmp_path, response_schema=schema), text="<mull>r</mull>Hi")[0])
    assert got["reasoning"] == "r" and got["content"] == "Hi"


@pytest.mark.skipif(not (ROOT.parent / "shared" / "checks" / "toolcalls.py").exists(), reason="shared is absent")
@pytest.mark.parametrize("how", [[], ["--deltas"]])
def test_shared_cases(how):
    r = subprocess.run(["python3", ROOT.parent / "shared" / "checks" / "toolcalls.py", "--ingot", INGOT, *how], capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stdout[-3000:]
