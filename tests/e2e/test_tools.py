"""Tools, reasoning and constrained answers over HTTP, through the official client."""
import json
import pytest
from conftest import ROOT, Server, ingot, write_tiny

CASES = [json.loads(line) for line in (ROOT / "tests" / "data" / "output.jsonl").read_text().splitlines()]
DIALECTS = sorted({c["dialect"] for c in CASES})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return str(write_tiny(tmp_path_factory.mktemp("tiny"), context=8192))  # bytes are tokens: tools take room


@pytest.fixture(scope="module")
def server(tiny):
    s = Server(tiny, "--alias", "tiny", "--parallel", "2")
    yield s
    code, log = s.stop()
    assert code == 0, log


def tool(name, strict=None, **properties):
    f = {"name": name, "description": "does " + name,
         "parameters": {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}}
    return {"type": "function", "function": f | ({} if strict is None else {"strict": strict})}


ROOM = tool("room", number={"type": "integer", "minimum": 1, "maximum": 99}, side={"enum": ["north", "south"]})
LAMP = tool("lamp", on={"type": "boolean"})


def join(chunks):
    """What a client makes of a stream."""
    text, reasoning, calls, finish = "", "", [], None
    for chunk in chunks:
        for choice in chunk.choices:
            d = choice.delta
            text += d.content or ""
            reasoning += getattr(d, "reasoning_content", None) or ""
            for c in d.tool_calls or []:
                if c.index == len(calls):
                    assert c.id and c.type == "function" and c.function.name and c.function.arguments == ""
                    calls.append([c.id, c.function.name, ""])
                else:
                    assert c.index == len(calls) - 1 and not c.id and not c.function.name
                    calls[-1][2] += c.function.arguments
            finish = choice.finish_reason or finish
    return text, reasoning, calls, finish


def read(text):
    """Arguments as ingot's own reader has them: a lone surrogate is U+FFFD. What is sent are the model's own bytes."""
    plain = json.dumps(json.loads(text), ensure_ascii=False)
    return json.loads(plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


DECLARED = [{"type": "function", "function": f} for f in (
    {"name": "f", "parameters": {"type": "object", "properties": {"s": {"type": "string"}, "i": {"type": "integer"}, "n": {"type": ["string", "null"]},
                                                                  "o": {"type": "object"}, "l": {"type": "array", "items": {"type": "string"}}, "b": {"type": "boolean"}}}},
    {"name": "g"}, {"name": "python"})]  # as tests/unit/tokenizers/output.c declares them


@pytest.mark.parametrize("dialect", DIALECTS)
def test_streams_say_what_whole_answers_say(serve, tiny, tmp_path, dialect):
    cases = [c for c in CASES if c["dialect"] == dialect and not c.get("prompt_tail") and not c.get("cut")]  # the template here opens nothing
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"match": f"case {i}.", "output": c["output"]} for i, c in enumerate(cases)]))
    client = serve(tiny, "--alias", "tiny", "--scripted", script, "--dialect", dialect, "--context", 8192).client()
    for i, c in enumerate(cases):
        question = dict(model="tiny", messages=[{"role": "user", "content": f"case {i}."}], tools=DECLARED)
        whole = client.chat.completions.create(**question)
        message = whole.choices[0].message
        calls = [[t.function.name, read(t.function.arguments)] for t in message.tool_calls or []]
        assert (getattr(message, "reasoning_content", None) or "", message.content or "", calls) == (c["reasoning"], c["content"], c["calls"])
        assert whole.choices[0].finish_reason == ("tool_calls" if calls else "stop")
        said = [w for w in whole.model_extra.get("warnings", []) if w["kind"] != "adapted"]
        assert [[w["kind"], w["text"]] for w in said] == c["warnings"]
        text, reasoning, streamed, finish = join(client.chat.completions.create(stream=True, **question))
        twice = c["output"].count('"arguments"') > len(c["calls"])
        if not c["warnings"] and not twice:  # what broke, or came again, after it was sent cannot be taken back
            assert (text, reasoning, finish) == (c["content"], c["reasoning"], whole.choices[0].finish_reason)
            assert [[n, read(a)] for _, n, a in streamed] == calls


def test_declared_answers(serve, tmp_path):
    """What a checkpoint declares (response_template) is how a server reads its answers."""
    folder = write_tiny(tmp_path, context=8192)
    config = folder / "tokenizer_config.json"
    template = {"start_anchor": "<|im_start|>assistant\n", "fields": {
        "thinking": {"open": "<mull>", "close": "</mull>"}, "content": {},
        "tool_calls": {"open": "<do>", "close": "</do>", "repeats": True, "content": "json", "transform": {"type": "function", "function": "{content}"}}}}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"response_template": template}))
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"match": "go", "output": '<mull>\nr\n</mull>\n\nHi <do>{"name": "f", "arguments": {"s": "x"}}</do>\n'}]))
    client = serve(str(folder), "--alias", "tiny", "--scripted", script).client()
    question = dict(model="tiny", messages=[{"role": "user", "content": "go"}])
    message = client.chat.completions.create(**question).choices[0].message
    assert (message.reasoning_content, message.content, message.tool_calls[0].function.name) == ("r", "Hi", "f")
    text, reasoning, calls, finish = join(client.chat.completions.create(stream=True, **question))
    assert (text, reasoning, finish) == ("Hi", "r", "tool_calls") and [[n, json.loads(a)] for _, n, a in calls] == [["f", {"s": "x"}]]


def test_tools_that_must_be_called_are_called(server):
    client = server.client()
    for choice, names in (("required", {"room", "lamp"}), ({"type": "function", "function": {"name": "lamp"}}, {"lamp"})):
        for seed in range(4):
            r = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "go"}], tools=[ROOM, LAMP], tool_choice=choice,
                                               parallel_tool_calls=False, temperature=1, seed=seed, max_tokens=800)
            calls = r.choices[0].message.tool_calls
            assert r.choices[0].finish_reason == "tool_calls" and len(calls) == 1 and calls[0].function.name in names
            a = json.loads(calls[0].function.arguments)
            if calls[0].function.name == "lamp":
                assert set(a) == {"on"} and isinstance(a["on"], bool)
            else:
                assert 1 <= a["number"] <= 99 and a["side"] in ("north", "south") and len(a) == 2


SEAT = tool("seat", row={"type": "integer", "minimum": 1, "maximum": 99}, side={"enum": ["north", "south"]}, aisle={"type": "boolean"},
            guest={"type": "string", "maxLength": 4}, tags={"type": "array", "items": {"enum": ["a", 1]}, "maxItems": 2}, note={"type": ["string", "null"], "maxLength": 4},
            at={"type": "object", "properties": {"day": {"type": "string", "maxLength": 3}, "to": {"enum": ["x \"y\"", 2]}}, "required": ["day", "to"], "additionalProperties": False})


@pytest.mark.parametrize("dialect", ["qwen3_coder", "seed_oss", "glm45", "minimax_m2", "deepseek_v32", "step3", "lfm2", "olmo3", "llama32_pythonic", "tool_call_text", "kimi_k2", "gemma4", "functiongemma"])
def test_arguments_that_are_no_json_follow_their_schema(serve, tiny, dialect):
    """A random model is held to it in the dialect's own notation, and the dialect's reader finds what the schema asks for."""
    client = serve(tiny, "--alias", "tiny", "--dialect", dialect, "--context", 8192).client()
    for seed in range(4):
        r = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "go"}], tools=[SEAT, LAMP], temperature=1, seed=seed, max_tokens=1500,
                                           tool_choice={"type": "function", "function": {"name": "seat"}} if seed else "required", parallel_tool_calls=False)
        assert r.choices[0].finish_reason == "tool_calls"
        assert [w for w in r.model_extra.get("warnings", []) if w["kind"] != "adapted"] == []
        call, = r.choices[0].message.tool_calls
        a = read(call.function.arguments)
        if call.function.name == "lamp":
            assert set(a) == {"on"} and isinstance(a["on"], bool)
        else:
            assert set(a) == {"row", "side", "aisle", "guest", "tags", "note", "at"} and 1 <= a["row"] <= 99 and a["side"] in ("north", "south")
            assert isinstance(a["aisle"], bool) and len(a["guest"]) <= 4 and all(t in ("a", 1) for t in a["tags"]) and len(a["note"] or "") <= 4
            assert set(a["at"]) == {"day", "to"} and len(a["at"]["day"]) <= 3 and a["at"]["to"] in ('x "y"', 2)


@pytest.mark.parametrize("dialect,held", [("qwen3_coder", True), ("kimi_k2", True), ("olmo3", True), ("llama32_pythonic", False), ("gemma4", True), ("minimax_m3", False)])
def test_strict_says_where_it_is_void(serve, tiny, dialect, held):
    client = serve(tiny, "--alias", "tiny", "--dialect", dialect, "--context", 8192).client()
    r = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "go"}], tools=[tool("lamp", strict=True, on={"type": "boolean"})], max_tokens=8)
    assert any("not held" in w["text"] for w in r.model_extra.get("warnings", [])) != held


def test_no_tools_no_calls(server):
    r = server.client().chat.completions.create(model="tiny", messages=[{"role": "user", "content": "go"}], tools=[LAMP], tool_choice="none", max_tokens=4)
    assert not r.choices[0].message.tool_calls and "warnings" not in (r.model_extra or {})


def test_a_template_without_tools_says_what_was_done(server):
    r = server.client().chat.completions.create(model="tiny", messages=[{"role": "user", "content": "go"}], tools=[LAMP], max_tokens=4)
    assert {"kind": "adapted", "text": "tools-into-system"} in r.model_extra["warnings"]


SHAPE = {"type": "object", "properties": {"kind": {"enum": ["a", "b"]}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
         "required": ["kind", "n"], "additionalProperties": False}


@pytest.mark.parametrize("stream", [False, True])
def test_answers_follow_a_schema(server, stream):
    client = server.client()
    for seed in range(3):
        r = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "go"}], temperature=1, seed=seed, max_tokens=800, stream=stream,
                                           response_format={"type": "json_schema", "json_schema": {"name": "s", "strict": True, "schema": SHAPE}})
        text, finish = (join(r)[0], "stop") if stream else (r.choices[0].message.content, r.choices[0].finish_reason)
        v = json.loads(text)
        assert finish == "stop" and v["kind"] in "ab" and 0 <= v["n"] <= 9 and len(v) == 2


def test_other_forms_of_grammars(server):
    client = server.client()
    ask = lambda **more: client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "go"}], max_tokens=60, **more).choices[0].message.content
    assert ask(response_format={"type": "regex", "regex": "(yes|no)"}) in ("yes", "no")
    assert ask(extra_body={"grammar": 'root ::= "left" | "right"'}) in ("left", "right")
    assert json.loads(ask(extra_body={"json_schema": {"enum": [1, 2]}})) in (1, 2)
    r = client.completions.create(model="tiny", prompt="go", max_tokens=60, extra_body={"json_schema": {"enum": ["x", "y"]}})
    assert json.loads(r.choices[0].text) in ("x", "y")


def test_schema_or_call(server):
    """With tools and a schema the answer is one of both."""
    client, seen = server.client(), set()
    for seed in range(8):
        r = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "go"}], tools=[LAMP], temperature=1.5, seed=seed, max_tokens=800,
                                           parallel_tool_calls=False, response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": SHAPE}})
        m = r.choices[0].message
        if m.tool_calls:
            assert isinstance(json.loads(m.tool_calls[0].function.arguments)["on"], bool)
        else:
            assert json.loads(m.content)["kind"] in "ab"
        seen.add(bool(m.tool_calls))
    assert seen == {False, True}


@pytest.mark.parametrize("change,words", [
    (dict(response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object", "properties": {"x": {"$dynamicRef": "#y"}}}}}), "$dynamicRef"),
    (dict(response_format={"type": "json_schema"}), "response_format"),
    (dict(response_format={"type": "xml"}), "response_format"),
    (dict(tools=[LAMP], tool_choice={"type": "function", "function": {"name": "fan"}}), "fan"),
    (dict(extra_body={"grammar": "root ::= ("}), "grammar"),
])
def test_what_cannot_be_kept_is_refused(server, change, words):
    import openai
    with pytest.raises(openai.BadRequestError) as e:
        server.client().chat.completions.create(model="tiny", messages=[{"role": "user", "content": "go"}], **change)
    assert words in str(e.value)


def test_thinking_has_a_budget(serve, tmp_path):
    """The template opens a tag; the model, which is random, would never close it."""
    folder = write_tiny(tmp_path)
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))
    r = ingot("run", folder, "go", "--thinking-budget", 4, "--max-tokens", 20, "--ignore-eos", "--json", "--temperature", 0)
    assert 0 < len(json.loads(r.stdout)["reasoning"]) <= 5 and json.loads(r.stdout)["text"]
    client = serve(folder, "--alias", "tiny").client()
    ask = lambda **more: client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "go"}], **more).choices[0].message
    m = ask(max_tokens=60, extra_body={"thinking_budget": 10, "ignore_eos": True})
    assert 0 < len(m.reasoning_content) <= 11 and m.content
    m = ask(max_tokens=200, temperature=1, seed=1, response_format={"type": "regex", "regex": "(yes|no)"}, extra_body={"thinking_budget": 5})
    assert m.content in ("yes", "no")


CHANNELS = ("{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>{{ m.content }}<|end|>{% endfor %}"
            "{% if add_generation_prompt %}<|start|>assistant{% endif %}")


def test_grammars_hold_the_final_channel(serve, tmp_path):
    """A model that writes channels is free in its analysis; what it says is held."""
    folder = write_tiny(tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": CHANNELS}))
    client = serve(folder, "--alias", "tiny").client()
    for more in (dict(response_format={"type": "gbnf", "gbnf": 'root ::= "left" | "right"'}), dict(extra_body={"grammar": 'root ::= "left" | "right"'}),
                 dict(response_format={"type": "lark", "lark": 'start: "left" | "right"'})):
        choice = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "go"}], max_tokens=300, temperature=0, **more).choices[0]
        assert choice.message.content in ("left", "right"), choice
    grammar = tmp_path / "g.gbnf"
    grammar.write_text('root ::= "left" | "right"')
    r = ingot("run", folder, "go", "--grammar", grammar, "--max-tokens", 300, "--json", "--temperature", 0)
    answer = json.loads(r.stdout)
    assert answer["text"] in ("left", "right") and bytes(answer["tokens"]).startswith(b"<|channel|>"), r.stdout + r.stderr


def test_run_prints_calls(default_model, tmp_path):
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps([LAMP["function"]]))
    r = ingot("run", default_model, "Switch the lamp on.", "--tools", tools, "--max-tokens", 8, "--json", "--temperature", 0)
    assert r.returncode == 0 and "text" in json.loads(r.stdout)
    tools.write_text('{"not": "a list"}')
    assert ingot("run", default_model, "Hi", "--tools", tools).returncode == 4
