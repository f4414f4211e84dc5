"""The server through the official client, and through sockets where clients misbehave."""
import http.client, json, os, pathlib, signal, socket, struct, subprocess, threading, time
import pytest
from conftest import INGOT, free_port, ingot

QUESTION = [{"role": "user", "content": "hello there"}]


def ask(client, **more):
    return client.chat.completions.create(**(dict(model="tiny", messages=QUESTION, temperature=0, max_tokens=24) | more))


def streamed(client, **more):
    text, usage = "", None
    for chunk in ask(client, stream=True, stream_options={"include_usage": True}, **more):
        text += "".join(c.delta.content or "" for c in chunk.choices)
        usage = chunk.usage or usage
    return text, usage


def test_whole_and_streamed_answers_are_equal(server):
    client = server.client()
    whole = ask(client)
    text, usage = streamed(client)
    assert text == whole.choices[0].message.content
    assert usage.completion_tokens == whole.usage.completion_tokens and usage.prompt_tokens == whole.usage.prompt_tokens > 0
    assert whole.choices[0].finish_reason in ("stop", "length")


def test_six_at_once_get_what_one_gets(server):
    client, answers = server.client(), {}
    alone = [ask(client, messages=[{"role": "user", "content": "x" * (i + 1)}]).choices[0].message.content for i in range(6)]

    def go(i):
        answers[i] = streamed(server.client(), messages=[{"role": "user", "content": "x" * (i + 1)}])[0]

    threads = [threading.Thread(target=go, args=(i,)) for i in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert [answers[i] for i in range(6)] == alone


def test_seed_repeats_and_n_differ(server):
    client = server.client()
    first = ask(client, temperature=1.5, seed=5, n=3)
    again = ask(client, temperature=1.5, seed=5, n=3)
    texts = [c.message.content for c in first.choices]
    assert texts == [c.message.content for c in again.choices] and len(set(texts)) > 1
    assert [c.index for c in first.choices] == [0, 1, 2]


def test_many_answers_pass_through_few_places(serve, tiny):
    """All at once they would need several times the KV cache."""
    s = serve(tiny, "--parallel", "2", "--alias", "tiny", "--context", "96")
    r = ask(s.client(), n=40, max_tokens=None, temperature=1, extra_body={"ignore_eos": True})
    assert len(r.choices) == 40 and {c.finish_reason for c in r.choices} == {"length"}
    assert s.stop()[0] == 0


def test_a_conversation_is_not_computed_again(serve, tiny, tmp_path):
    """Whole pieces of 256 tokens; each key has its own."""
    keys = tmp_path / "keys"
    keys.write_text("first\nsecond\n")
    keys.chmod(0o600)
    s = serve(tiny, "--context", 2048, "--api-key-file", keys)
    messages, reused = [{"role": "user", "content": "w" * 600}], []
    for turn in range(3):
        for key in ("first", "second") if turn == 2 else ("first",):
            r = s.client(api_key=key).chat.completions.create(model=tiny, messages=messages, max_tokens=8, temperature=0)
            reused.append((r.usage.prompt_tokens_details.cached_tokens, r.choices[0].message.content))
        messages += [{"role": "assistant", "content": r.choices[0].message.content}, {"role": "user", "content": "and " * 50}]
    assert [n for n, _ in reused] == [0, 512, 768, 0]
    assert reused[2][1] == reused[3][1]


def test_logprobs(server):
    choice = ask(server.client(), logprobs=True, top_logprobs=3, max_tokens=4).choices[0]
    for entry in choice.logprobs.content:
        assert len(entry.top_logprobs) == 3 and entry.logprob == pytest.approx(entry.top_logprobs[0].logprob)
        assert bytes(entry.bytes).decode("utf-8", "replace") == entry.token


def test_echo_scores_the_prompt(server):
    """The form that lm-evaluation-harness sends; rows must agree with what a longer prompt's own rows say."""
    ids = [ord(c) for c in "the hen hears"]
    r = server.client().completions.create(model="tiny", prompt=ids, max_tokens=1, logprobs=1, echo=True, temperature=0, seed=1)
    p = r.choices[0].logprobs
    assert len(p.tokens) == len(p.token_logprobs) == len(p.top_logprobs) == len(p.text_offset) == len(ids) + 1
    assert p.token_logprobs[0] is None and p.top_logprobs[0] is None and all(x < 0 for x in p.token_logprobs[1:])
    for token, logprob, top in list(zip(p.tokens, p.token_logprobs, p.top_logprobs))[1:]:
        assert top[token] == pytest.approx(logprob) and max(top.values()) >= logprob
    assert r.choices[0].text.startswith("the hen hears") and p.tokens[:len(ids)] == list("the hen hears")
    short = server.client().completions.create(model="tiny", prompt=ids[:6], max_tokens=0, logprobs=1, echo=True).choices[0].logprobs
    assert short.token_logprobs[1:] == pytest.approx(p.token_logprobs[1:6], abs=1e-4)


def test_several_prompts(server):
    r = server.client().completions.create(model="tiny", prompt=[[1, 2, 3], [4, 5]], max_tokens=3, temperature=0)
    one = server.client().completions.create(model="tiny", prompt=[4, 5], max_tokens=3, temperature=0)
    assert [c.index for c in r.choices] == [0, 1] and r.choices[1].text == one.choices[0].text


def test_stop_ends_before_the_text(server):
    client = server.client()
    text = ask(client).choices[0].message.content
    stop = text[4:7]
    cut, _ = streamed(client, stop=[stop])
    assert cut == text[:text.index(stop)]


def post(server, path, body, headers=None):
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    c.request("POST", path, body if isinstance(body, bytes) else json.dumps(body), {"Content-Type": "application/json"} | (headers or {}))
    r = c.getresponse()
    return r.status, json.loads(r.read() or b"null")


@pytest.mark.parametrize("change, status, field", [
    (dict(temperature=9), 400, "temperature"), (dict(top_p=-1), 400, "top_p"), (dict(n=0), 400, "n"), (dict(messages=[]), 400, "messages"),
    (dict(messages=[{"role": "wizard", "content": "x"}]), 400, "role"), (dict(model="other"), 404, "model"), (dict(stop=5), 400, "stop"),
    (dict(logit_bias={"300": 1}), 400, "logit_bias"), (dict(top_logprobs=3), 400, "top_logprobs"), (dict(seed="a"), 400, "seed"),
    (dict(messages=[{"role": "user", "content": "x" * 600}]), 400, "600|context"),
    (dict(functions=[{"name": "f"}], modalities=["audio"]), 400, "functions, modalities"),
    (dict(tools=[{"type": "function", "function": {}}]), 400, "tools[0].function.name"),
    (dict(tools=[{"type": "retrieval"}]), 400, "tools[0].type"),
    (dict(tool_choice="required"), 400, "tool_choice"),
    (dict(messages=[{"role": "assistant", "tool_calls": [{}]}]), 400, "messages[0].tool_calls[0].function.name"),
    (dict(reasoning_effort="enormous"), 400, "reasoning_effort")])
def test_errors_name_the_field(server, change, status, field):
    code, body = post(server, "/v1/chat/completions", dict(model="tiny", messages=QUESTION, max_tokens=2) | change)
    words = body["error"]["message"] + " " + str(body["error"]["param"])
    assert code == status and any(f in words for f in field.split("|")), body
    if status == 404:
        assert body["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("nothing", [dict(tools=[]), dict(tool_choice="none"), dict(response_format={"type": "text"}), dict(tools=None, stop=None)])
def test_fields_that_ask_for_nothing_pass(server, nothing):
    assert post(server, "/v1/chat/completions", dict(messages=QUESTION, max_tokens=2) | nothing)[0] == 200


def test_what_browsers_may_not(server):
    assert post(server, "/v1/completions", dict(prompt="a", max_tokens=1), {"Origin": "http://evil.example"})[0] == 403
    assert post(server, "/v1/completions", dict(prompt="a", max_tokens=1), {"Host": "evil.example"})[0] == 403
    assert post(server, "/v1/completions", dict(prompt="a", max_tokens=1), {"Content-Type": "text/plain"})[0] == 415
    assert post(server, "/v1/nothing", {})[0] == 404


def test_a_client_that_vanishes_frees_its_place(serve, tiny):
    s = serve(tiny, "--parallel", "1", "--context", "60000", "--reference")  # an answer that nobody ends takes minutes
    body = json.dumps(dict(messages=QUESTION, stream=True, ignore_eos=True)).encode()
    for _ in range(5):
        c = socket.create_connection(("127.0.0.1", s.port))
        c.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert c.recv(100)
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.close()
    start = time.monotonic()
    assert s.client().chat.completions.create(model=tiny, messages=QUESTION, max_tokens=2).usage.completion_tokens
    assert time.monotonic() - start < 5
    assert s.stop()[0] == 0


def test_a_client_that_never_reads_holds_up_nobody(serve, tiny):
    s = serve(tiny, "--parallel", "2")
    body = json.dumps(dict(messages=QUESTION, stream=True, ignore_eos=True, n=8, logprobs=True, top_logprobs=20)).encode()
    c = socket.socket()
    c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    c.connect(("127.0.0.1", s.port))
    c.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert s.client().chat.completions.create(model=tiny, messages=QUESTION, max_tokens=4).usage.completion_tokens
    c.close()
    assert s.stop()[0] == 0


def test_port_in_use(server, tiny):
    r = ingot("serve", tiny, "--port", server.port)
    assert r.returncode == 1 and str(server.port) in r.stderr and "use" in r.stderr


def test_a_foreign_address_needs_a_key(serve, tiny, tmp_path):
    r = ingot("serve", tiny, "--host", "0.0.0.0", "--port", free_port())
    assert r.returncode == 2 and "--api-key-file" in r.stderr
    keys = tmp_path / "keys"
    keys.write_text("# ours\nsecret-one\n")
    s = serve(tiny, "--api-key-file", keys)
    assert post(s, "/v1/completions", dict(prompt="a", max_tokens=1))[0] == 401
    assert post(s, "/v1/completions", dict(prompt="a", max_tokens=1), {"Authorization": "Bearer secret-one"})[0] == 200
    assert s.stop()[0] == 0


def test_idle_unload_and_reload(serve, tiny):
    s = serve(tiny, "--idle-unload", "1")
    for _ in range(2):
        assert s.client().chat.completions.create(model=tiny, messages=QUESTION, max_tokens=2).usage.completion_tokens
        time.sleep(3.2)
    code, log = s.stop()
    assert code == 0 and log.count("loaded in") == 2 and log.count("unloaded after") == 2, log


def test_sigterm_lets_an_answer_end(serve, tiny):
    s = serve(tiny)
    stream = s.client().chat.completions.create(model=tiny, messages=QUESTION, stream=True, max_tokens=300, extra_body={"ignore_eos": True}, temperature=0)
    next(iter(stream))
    s.process.terminate()
    finish = [c.finish_reason for chunk in stream for c in chunk.choices if c.finish_reason]
    assert finish == ["length"] and s.process.wait(15) == 0


def test_scripted(serve, tiny, tmp_path):
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"match": "weather", "output": "It rains, it pours."}, {"match": "", "output": "Yes."}]))
    c = serve(tiny, "--scripted", script, "--alias", "tiny").client()
    weather = [{"role": "user", "content": "the weather?"}]
    assert ask(c, messages=weather).choices[0].message.content == "It rains, it pours."
    assert streamed(c, messages=weather)[0] == "It rains, it pours."
    assert ask(c, messages=weather, stop=[" it pours"]).choices[0].message.content == "It rains,"
    short = ask(c, messages=weather, max_tokens=1).choices[0]
    assert short.finish_reason == "length" and short.message.content == "It "
    assert ask(c).choices[0].message.content == "Yes."


def test_a_body_over_the_limit(serve, tiny):
    s = serve(tiny, "--body-limit", "64K")
    assert post(s, "/v1/completions", dict(prompt="a" * 100000))[0] == 413
    assert post(s, "/v1/completions", dict(prompt="a", max_tokens=1))[0] == 200


def raw(server, method, path, headers=None):
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    c.request(method, path, headers=headers or {})
    r = c.getresponse()
    return r.status, dict(r.getheaders()), r.read()


def test_methods(server):
    assert raw(server, "HEAD", "/health")[0] == 200
    code, headers, _ = raw(server, "GET", "/v1/chat/completions")
    assert code == 405 and headers["Allow"] == "POST"
    assert raw(server, "OPTIONS", "/v1/models")[0] == 405
    assert "Access-Control-Allow-Origin" not in raw(server, "GET", "/v1/models")[1]


def test_pages_of_an_allowed_origin_may_read_answers(serve, tiny, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    s = serve(tiny, "--allow-origin", "https://app.example", "--api-key-file", keys)
    origin = {"Origin": "https://app.example"}
    code, headers, _ = raw(s, "OPTIONS", "/v1/chat/completions",
                           origin | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"})
    assert code == 204 and headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert "POST" in headers["Access-Control-Allow-Methods"] and "authorization" in headers["Access-Control-Allow-Headers"]
    assert raw(s, "GET", "/v1/models", origin)[0] == 401
    code, headers, _ = raw(s, "GET", "/v1/models", origin | {"Authorization": "Bearer secret"})
    assert code == 200 and headers["Access-Control-Allow-Origin"] == "https://app.example"
    code, headers, _ = raw(s, "OPTIONS", "/v1/models", {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"})
    assert code == 403 and "Access-Control-Allow-Origin" not in headers


def test_addresses_are_no_foreign_names(serve, tiny):
    s = serve(tiny, "--host", "0.0.0.0", "--no-auth")
    assert raw(s, "GET", "/health", {"Host": f"192.168.7.8:{s.port}"})[0] == 200
    assert raw(s, "GET", "/health", {"Host": "rebound.example"})[0] == 403


def test_a_port_in_use_is_known_before_anything_is_loaded(server, tiny, tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"no model")
    r = ingot("serve", tmp_path / "m.gguf", "--port", server.port)
    assert r.returncode == 1 and "choose another --port" in r.stderr, r.stderr
    assert ingot("serve", tiny, "--parallel", "2x", "--port", free_port()).returncode == 2


def test_a_server_comes_back_on_its_port(serve, tiny):
    s = serve(tiny)
    c = socket.create_connection(("127.0.0.1", s.port))      # the server's end closes first and waits out its time
    c.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    while c.recv(1000):
        pass
    c.close()
    assert s.stop()[0] == 0
    again = subprocess.Popen([INGOT, "serve", tiny, "--port", str(s.port)], stderr=subprocess.PIPE, text=True)
    try:
        assert "listening" in again.stderr.readline() + again.stderr.readline()
    finally:
        again.terminate()
        assert again.wait(15) == 0


def test_a_model_that_cannot_load_is_the_servers_fault(serve, tiny, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    s = serve(tmp_path / "broken", tiny, "--idle-unload", "60")
    code, body = post(s, "/v1/completions", dict(prompt="a", max_tokens=1))
    assert code == 500 and "cannot be loaded" in body["error"]["message"], body
    assert post(s, "/v1/completions", dict(model=tiny, prompt="a", max_tokens=1))[0] == 200
    code, log = s.stop()
    assert code == 0 and "cannot be loaded" in log


def test_loading_one_model_does_not_stop_another(serve, tiny, tmp_path):
    """A pipe as the Hub: the default model's download hangs for as long as we like."""
    hang = socket.create_server(("127.0.0.1", 0))
    hang.settimeout(20)
    env = dict(HF_ENDPOINT=f"http://127.0.0.1:{hang.getsockname()[1]}", HF_HUB_CACHE=str(tmp_path / "hub"))
    old = {k: os.environ.get(k) for k in env}
    os.environ.update(env)
    try:
        s = serve("default", tiny, "--idle-unload", "60")
    finally:
        for k, v in old.items():
            os.environ.pop(k) if v is None else os.environ.__setitem__(k, v)
    body = json.dumps(dict(model="default", prompt="a")).encode()
    waiting = socket.create_connection(("127.0.0.1", s.port))
    waiting.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    hub, _ = hang.accept()
    hub.recv(1000)
    start = time.time()
    assert post(s, "/v1/completions", dict(model=tiny, prompt="a", max_tokens=1))[0] == 200 and time.time() - start < 10
    s.process.terminate()
    time.sleep(0.5)
    s.process.terminate()          # a second signal does not wait for anything
    assert s.process.wait(5) == 128 + signal.SIGTERM
    hub.close(), waiting.close(), hang.close()


def test_echo_without_a_tokenizer(serve, tiny, tmp_path):
    for f in ("config.json", "model.safetensors"):
        (tmp_path / f).write_bytes((pathlib.Path(tiny) / f).read_bytes())
    s = serve(tmp_path, "--alias", "bare")
    assert post(s, "/v1/completions", dict(prompt=[1, 2, 3], echo=True, max_tokens=2, logprobs=1))[0] == 200
    assert s.stop()[0] == 0
