"""The program on the command line."""
import http.server, json, os, pty, pwd, re, resource, select, shutil, signal, stat, subprocess, threading, time
import numpy as np
import pytest
from conftest import INGOT, ROOT, ingot


def test_prompt_from_argument_and_stdin(tiny):
    a = ingot("run", tiny, "hello\nyou", "-n", 8, "--temperature", 0)
    b = ingot("run", tiny, stdin="hello\nyou", *["-n", 8, "--temperature", 0])
    c = ingot("run", tiny, "hello", "-n", 8, "--temperature", 0, stdin="you\n")
    assert a.returncode == 0 and a.stdout == b.stdout == c.stdout
    assert "cut by the token limit" in a.stderr


def test_json_and_tokens(tiny, tmp_path):
    ids = tmp_path / "ids.json"
    ids.write_text("[[104, 101], [1, 2, 3]]")
    r = ingot("run", tiny, "--tokens", ids, "-n", 5, "--temperature", 0, "--json", "--ignore-eos")
    lines = [json.loads(l) for l in r.stdout.splitlines()]
    assert len(lines) == 2 and all(len(l["tokens"]) == 5 and l["finish_reason"] == "length" for l in lines)
    reference = ingot("run", tiny, "--tokens", ids, "-n", 5, "--temperature", 0, "--json", "--ignore-eos", "--reference")
    assert [json.loads(l)["tokens"] for l in reference.stdout.splitlines()] == [l["tokens"] for l in lines]


@pytest.mark.parametrize("arguments, code, words", [
    (["run"], 2, "model"), (["frobnicate"], 2, "frobnicate"), (["run", "default", "--frob"], 2, "--frob"), (["run", "/no/such", "x"], 4, "/no/such"),
    (["run", "TINY", "x", "--temperature", "hot"], 2, "temperature"), (["run", "TINY", "x", "--kv", "q9"], 2, "--kv"),
    (["run", "TINY", "x", "--device", "mps"], 1, "mps"), (["run", "TINY", "x", "--device", "cuda"], 1, "cuda"),
    (["run", "TINY", "x", "--trust-remote-code"], 2, "never run"), (["run", "TINY", "x" * 700], 5, "512"),
    (["run", "TINY", "x", "--context", "100M"], 5, "--context"), (["run", "org/model", "x", "--offline"], 6, "org/model"),
    (["run", "TINY", "x", "--logit-bias", "5"], 2, "logit-bias"), (["serve", "TINY", "--port", "99999"], 2, "port")])
def test_wrong_input(tiny, arguments, code, words):
    r = ingot(*[tiny if a == "TINY" else a for a in arguments])
    assert r.returncode == code, r.stderr
    assert words in r.stderr and r.stderr.count("\n") <= 3 and not r.stdout


def test_invalid_utf8_is_taken(tiny):
    r = subprocess.run([INGOT, "run", tiny, "-n", "3", "--raw", "--temperature", "0"], input=b"a\xff\xfeb", capture_output=True, timeout=60)
    assert r.returncode == 0
    r.stdout.decode("utf-8")
    t = subprocess.run([INGOT, "tokenize", tiny], input=b"a\xff\xfeb", capture_output=True, timeout=60)
    assert json.loads(t.stdout) == [97, 255, 254, 98]
    assert json.loads(ingot("detokenize", tiny, stdin="[97, 255, 98]").stdout)["text"] == "a\ufffdb"


def test_token_out_of_range(tiny, tmp_path):
    ids = tmp_path / "ids.json"
    ids.write_text("[300]")
    r = ingot("logits", tiny, "--tokens", ids, "--out", tmp_path / "out.npy")
    assert r.returncode == 2 and "300" in r.stderr and not (tmp_path / "out.npy").exists()


def test_no_template_says_what_to_do(tiny, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(tiny, folder)
    (folder / "tokenizer_config.json").unlink()
    r = ingot("run", folder, "hi")
    assert r.returncode != 0 and "--template" in r.stderr and "--raw" in r.stderr
    assert ingot("run", folder, "hi", "--raw", "-n", 2).returncode == 0
    template = tmp_path / "t.jinja"
    template.write_text("{{ messages[0].content }}")
    assert ingot("run", folder, "hi", "--template", template, "-n", 2).returncode == 0


def test_full_disk_leaves_no_result(tiny, tmp_path):
    ids, out = tmp_path / "ids.json", tmp_path / "out.npy"
    ids.write_text(json.dumps([[5] * 200]))

    def small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))

    r = ingot("logits", tiny, "--tokens", ids, "--out", out, preexec_fn=small)
    assert r.returncode == 1 and "out.npy" in r.stderr and os.listdir(tmp_path) == ["ids.json"]
    r = subprocess.run(f"{INGOT} inspect {tiny} > /dev/full", shell=True, capture_output=True, text=True)
    assert r.returncode == 1 and "result" in r.stderr


def test_ctrl_c_ends_an_answer(tiny):
    p = subprocess.Popen([INGOT, "run", tiny, "hello", "--ignore-eos", "--reference", "--context", "20000"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert p.stdout.read(1)
    p.send_signal(signal.SIGINT)
    assert p.wait(10) == 130


def test_configuration_files(tiny, tmp_path):
    expected = ingot("run", tiny, "hi", "-n", 6, "--temperature", 0).stdout
    (tmp_path / "c.toml").write_text(f'backend = "local"\nmodel = "{tiny}"\n[local]\nmax_new_tokens = 6\ndo_sample = false\ntorch_dtype = "auto"\n[other]\nurl = "x"\n')
    (tmp_path / "c.yaml").write_text(f"model: {tiny}\nmax_tokens: 6\ntemperature: 0\n")
    (tmp_path / "c.json").write_text(json.dumps(dict(model=tiny, max_tokens=6, temperature=0)))
    for name in ("c.toml", "c.yaml", "c.json"):
        assert ingot("run", "--config", tmp_path / name, "hi").stdout == expected, name
    (tmp_path / "bad.yaml").write_text("temprature: 1\n")
    r = ingot("run", tiny, "hi", "--config", tmp_path / "bad.yaml")
    assert r.returncode == 2 and "temprature" in r.stderr and "bad.yaml" in r.stderr
    (tmp_path / "code.json").write_text('{"trust_remote_code": true}')
    assert ingot("run", tiny, "hi", "--config", tmp_path / "code.json").returncode == 2


def test_environment_stands_between_arguments_and_file(tiny, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(dict(max_tokens=3, temperature=0)))
    count = lambda *arguments, **env: json.loads(ingot("run", tiny, "hi", "--json", "--ignore-eos", *arguments, env=env).stdout)["completion_tokens"]
    file = str(tmp_path / "c.json")
    assert count(INGOT_CONFIG=file) == 3
    assert count(INGOT_CONFIG=file, INGOT_MAX_TOKENS="4") == 4
    assert count("-n", 5, INGOT_CONFIG=file, INGOT_MAX_TOKENS="4") == 5
    r = ingot("run", tiny, "hi", env=dict(INGOT_TEMPERATURE="hot"))
    assert r.returncode == 2 and "INGOT_TEMPERATURE" in r.stderr


def test_plan_and_inspect(tiny):
    plan = json.loads(ingot("plan", tiny, "--json").stdout)
    assert plan["fits"] and plan["context"] == 512 and plan["total_bytes"] == plan["weights_bytes"] + plan["kv_bytes"] + plan["scratch_bytes"]
    r = ingot("plan", tiny, "--json", "--memory", "1M", "--context", "100000")
    assert r.returncode == 5 and not json.loads(r.stdout)["fits"] and json.loads(r.stdout)["advice"]
    tensors = [json.loads(l) for l in ingot("inspect", tiny, "--tensors", "--json").stdout.splitlines()]
    assert tensors[0]["tensors"] == len(tensors) - 1 == 20


def test_types_of_the_kv_cache(tiny, tmp_path):
    """What fewer bits cost is the cache's doing, not the kernels': random weights make it large, the reference has the same."""
    (tmp_path / "ids").write_text(json.dumps([(i * 37 + i // 7) % 256 for i in range(200)]))
    def logits(*arguments):
        r = ingot("logits", tiny, "--tokens", tmp_path / "ids", "--out", tmp_path / "out.npy", *arguments)
        assert r.returncode == 0, r.stderr
        return np.load(tmp_path / "out.npy")
    error = lambda a, b: np.linalg.norm(a - b) / np.linalg.norm(b)
    agree = lambda a, b: (a.argmax(1) == b.argmax(1)).mean()
    exact = logits("--kv", "f32")
    tiles = "instruction sets: amx" in ingot("--version").stdout  # they round a prompt's weights and values to bfloat16
    for kv, whole, kernels in (("f16", 2e-3, 4e-3 if tiles else 1e-3), ("bf16", 2e-2, 1e-2), ("fp8", 0.2, 1e-2), ("q8_0", 4e-2, 3e-2), ("q4_0", 0.4, 8e-2), ("q8_0,q4_0", 0.2, 4e-2)):
        reference = logits("--kv", kv, "--reference")
        assert 1e-5 < error(reference, exact) <= whole, (kv, error(reference, exact))
        for how in ((), ("--chunk", "50"), ("--chunk", "1")):
            got = logits("--kv", kv, *how)
            assert error(got, reference) <= kernels and agree(got, reference) >= 0.9, (kv, how, error(got, reference), agree(got, reference))
    plans = {kv: json.loads(ingot("plan", tiny, "--json", "--kv", kv).stdout) for kv in ("f16", "q8_0", "q4_0", "fp8", "q8_0,q4_0")}
    sizes = {kv: p["kv_bytes_per_token"] for kv, p in plans.items()}
    assert sizes["fp8"] < sizes["f16"] and sizes["q4_0"] < sizes["q8_0,q4_0"] < sizes["q8_0"], sizes  # heads of 8 values fill up groups of 32
    assert (plans["q8_0,q4_0"]["k_type"], plans["q8_0,q4_0"]["v_type"]) == ("Q8_0", "Q4_0")


class Terminal:
    """A pseudo terminal with the program in it."""

    def __init__(self, *arguments):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "dumb"
            os.execv(INGOT, [INGOT, *arguments])
        self.seen = ""

    def wait_for(self, pattern, seconds=30):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.seen):
            assert time.monotonic() < end, f"no {pattern!r} in {self.seen[-400:]!r}"
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode("utf-8", "replace")
                except OSError:
                    break
        assert re.search(pattern, self.seen), self.seen[-400:]

    def type(self, text):
        self.seen = ""
        os.write(self.fd, text.encode())

    def leave(self):
        """Ctrl-D, again where it came before a line was being read (the terminal makes a NUL of it then, which Ctrl-U takes away)."""
        self.wait_for(r"> $")
        return self.end(again=b"\x15\x04")

    def end(self, again=b"", seconds=60):
        last = time.monotonic() + seconds
        os.write(self.fd, again)
        while time.monotonic() < last:
            try:
                if not select.select([self.fd], [], [], 2)[0]:
                    os.write(self.fd, again)
                elif not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        else:
            os.kill(self.pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_chat_on_a_terminal(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("INGOT_HOME", str(tmp_path / "home"))
    t = Terminal("chat", tiny, "--ignore-eos", "--reference", "--context", "9000", "--temperature", "0")
    t.wait_for("> ")
    t.type("hello\n")
    time.sleep(1.0)
    os.write(t.fd, b"\x03")                     # Ctrl-C stops the answer, not the program
    t.wait_for(r"\[stopped\]")
    t.type("/stats\n")
    t.wait_for(r"context \d+ of 9000 tokens")
    t.type(f"/save {tmp_path}/talk\n")
    t.wait_for("saved: ")
    t.type("/undo\n")
    t.wait_for(r"\(0 messages left\)")
    t.type("/frob\n")
    t.wait_for("no command /frob")
    t.type("/exit\n")
    assert t.end() == 0
    saved = json.load(open(tmp_path / "talk"))
    assert [m["role"] for m in saved["messages"]] == ["user", "assistant"]
    t = Terminal("chat", tiny, "--resume", str(tmp_path / "talk"), "--reference", "--context", "9000", "-n", "2")
    t.wait_for("> ")
    t.type("/stats\n")
    t.wait_for(r"context [1-9]\d* of 9000")
    assert t.leave() == 0


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves one file by ranges, cutting the first answer short."""
    content, cut, asked, gone, ranges = b"", 0, [], False, True

    def do_GET(self):
        start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-")).group(1))
        self.asked.append(start)
        if self.gone and len(self.asked) > 1:
            return self.send_error(404)
        start = start if Hub.ranges else 0
        body = self.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.end_headers()
        if Hub.cut:
            body, Hub.cut = body[:Hub.cut], 0
        try:
            self.wfile.write(body)
        except OSError:
            pass

    def log_message(self, *_):
        pass


NO_INDEX = dict(PIP_INDEX_URL="http://127.0.0.1:1/simple", PIP_CONFIG_FILE="/dev/null") # else the wheel would come to the rescue


@pytest.fixture
def hub():
    Hub.asked.clear()
    Hub.cut, Hub.gone, Hub.ranges = 0, False, True
    s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=s.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{s.server_port}"
    s.shutdown()


def test_a_download_resumes_and_is_stored_once(default_model, hub, tmp_path):
    Hub.content, Hub.cut = open(default_model, "rb").read(), 5_000_000
    env = dict(HF_ENDPOINT=hub, HF_HUB_CACHE=str(tmp_path / "hub"), **NO_INDEX)
    r = ingot("pull", "default", env=env)
    assert r.returncode == 0, r.stderr
    assert len(Hub.asked) == 2 and Hub.asked[1] >= 1_000_000, Hub.asked
    path = r.stdout.strip()
    assert os.path.islink(path) and open(path, "rb").read() == Hub.content
    files = [f for _, _, names in os.walk(tmp_path / "hub") for f in names if not f.endswith(".lock")]
    assert len(files) == 3            # blob, link, ref
    assert ingot("pull", "default", env=env | dict(HF_HUB_OFFLINE="1")).stdout == r.stdout and len(Hub.asked) == 2


def test_a_damaged_download_is_refused(hub, tmp_path):
    Hub.content = b"not the model" * 1000
    env = dict(HF_ENDPOINT=hub, HF_HUB_CACHE=str(tmp_path / "hub"), PIP_INDEX_URL=hub + "/nothing", PIP_CONFIG_FILE="/dev/null")
    r = ingot("pull", "default", env=env)
    assert r.returncode == 6 and "sha256" in r.stderr
    assert not [f for _, _, names in os.walk(tmp_path / "hub") for f in names if f.startswith("b179")and not f.endswith(".lock")]


def test_a_full_disk_while_fetching(hub, tmp_path):
    Hub.content = b"x" * 5_000_000

    def small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    r = ingot("pull", "default", env=dict(HF_ENDPOINT=hub, HF_HUB_CACHE=str(tmp_path / "hub")), preexec_fn=small)
    assert r.returncode == 1 and "cannot write" in r.stderr and "incomplete" in r.stderr


def test_the_default_model_answers(default_model):
    r = ingot("run", "default", "The capital of France is", "--raw", "--temperature", 0, "-n", 4)
    assert r.returncode == 0 and "Paris" in r.stdout
    assert "Paris" in ingot("run", "default", "The capital of France is", "--raw", "--temperature", 0, "-n", 4, "--reference").stdout


def test_help_covers_every_command():
    for name in re.findall(r"^COMMAND\((\w+),", (ROOT / "agent" / "commands.def").read_text(), re.M):
        r = ingot(name, "--help")
        assert r.returncode == 0 and r.stdout.startswith(f"Usage: ingot {name}")
    assert "instruction" in ingot("--version").stdout and ".TH INGOT" in ingot("--man-page").stdout
    for shell in ("bash", "zsh", "fish"):
        assert "max-tokens" in ingot("--completion", shell).stdout


def test_install_and_embed(tiny, tmp_path):
    prefix = tmp_path / "prefix"
    subprocess.run(["cmake", "--install", str(ROOT / "build"), "--prefix", str(prefix)], check=True, capture_output=True)
    env = os.environ | dict(PKG_CONFIG_PATH=str(next(prefix.rglob("pkgconfig"))), LD_LIBRARY_PATH=str(next(prefix.rglob("libingot.so")).parent))
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "ingot"], check=True, capture_output=True, text=True, env=env).stdout.split()
    subprocess.run(["cc", "-Wall", "-Wextra", str(ROOT / "docs/examples/embed.c"), *flags, "-o", str(tmp_path / "embed")], check=True)
    r = subprocess.run([str(tmp_path / "embed"), tiny, "hello"], capture_output=True, env=env, timeout=60)
    assert r.returncode == 0 and len(r.stdout) > 1
    assert (prefix / "bin" / "ingot").exists() and list(prefix.rglob("ingot.1")) and list(prefix.rglob("ingot.h"))


def test_what_cannot_be_written_says_why(tiny):
    for arguments in (f"run {tiny} hello -n 3", f"tokenize {tiny} hello", f"run {tiny} hello -n 3 --events", "--version", "--help", "run --help"):
        r = subprocess.run(f"{INGOT} {arguments} > /dev/full", shell=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert r.returncode == 1 and "No space left" in r.stderr, (arguments, r)


def test_nobody_reads_on(tiny):
    p = subprocess.Popen([INGOT, "run", tiny, "hello", "--ignore-eos", "--reference", "--context", "100000", "--events"], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    p.stdout.readline()
    p.stdout.close()
    assert p.wait(20) == 1 and "Broken pipe" in p.stderr.read()


def test_results_into_devices_and_links(tiny, tmp_path):
    ids, real, link, fifo = (tmp_path / n for n in ("ids.json", "real.npy", "link.npy", "fifo"))
    ids.write_text("[1, 2]")
    real.write_text("old")
    link.symlink_to(real)
    assert ingot("logits", tiny, "--tokens", ids, "--out", link).returncode == 0
    assert link.is_symlink() and real.read_bytes()[:6] == b"\x93NUMPY"
    os.mkfifo(fifo)
    reader = subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE)
    assert ingot("logits", tiny, "--tokens", ids, "--out", fifo).returncode == 0
    assert reader.communicate(timeout=20)[0] == real.read_bytes() and stat.S_ISFIFO(os.stat(fifo).st_mode)


@pytest.mark.parametrize("name, words", [("", "empty"), ("/etc/passwd", "neither a .gguf"), ("/tmp", "config.json")])
def test_what_is_no_model(name, words):
    r = ingot("run", name, "hi", stdin=None)
    assert r.returncode in (2, 4) and words in r.stderr


def test_chat_ends_on_a_line_of_its_own(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("INGOT_HOME", str(tmp_path / "home"))
    t = Terminal("chat", tiny, "-n", "3", "--ignore-eos", "--seed", "1")
    t.wait_for("> ")
    t.type("/undo\n")
    t.wait_for("nothing to take back")
    t.type("hello\n")
    t.wait_for("cut after 3 tokens")
    t.type("/retry\n")
    t.wait_for("cut after 3 tokens")
    assert t.leave() == 0


def test_the_cache_without_home(tmp_path):
    env = {k: v for k, v in os.environ.items() if k not in ("HOME", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME")}
    home = pwd.getpwuid(os.getuid()).pw_dir
    r = subprocess.run([INGOT, "doctor"], capture_output=True, text=True, env=env)
    assert f"{home}/.cache/huggingface/hub" in r.stdout
    r = subprocess.run([INGOT, "doctor"], capture_output=True, text=True, env=env | dict(XDG_CACHE_HOME="/tmp/x"))
    assert "/tmp/x/huggingface/hub" in r.stdout


def test_an_index_password_is_not_shown(hub, tmp_path):
    Hub.content = b"nothing here"
    index = hub.replace("http://", "http://somebody:hunter2@") + "/simple"
    env = dict(HF_ENDPOINT="http://127.0.0.1:1", HF_HUB_CACHE=str(tmp_path / "hub"), PIP_INDEX_URL=index, PIP_CONFIG_FILE="/dev/null")
    r = ingot("pull", "default", env=env)
    assert r.returncode == 6 and "/simple" in r.stderr and "hunter2" not in r.stderr


def test_what_the_hub_gave_stays_for_the_next_try(default_model, hub, tmp_path):
    """The Hub breaks off and is gone, the index has nothing: the second run asks for the rest only."""
    Hub.content, Hub.cut = open(default_model, "rb").read(), 5_000_000
    env = dict(HF_ENDPOINT=hub, HF_HUB_CACHE=str(tmp_path / "hub"), **NO_INDEX)
    Hub.gone = True
    try:
        assert ingot("pull", "default", env=env).returncode == 6
    finally:
        Hub.gone = False
    r = ingot("pull", "default", env=env)
    assert r.returncode == 0, r.stderr
    assert Hub.asked[-1] >= 1_000_000, Hub.asked


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    r = ingot("pull", "default", env=dict(HF_HUB_CACHE=str(tmp_path / "file")))
    assert r.returncode == 1 and "HF_HUB_CACHE" in r.stderr


def test_a_yaml_key_stands_once(tiny, tmp_path):
    (tmp_path / "c.yaml").write_text("max_tokens: 1\nseed: 1\nmax_tokens: 2\n")
    r = ingot("run", tiny, "hi", "--config", tmp_path / "c.yaml")
    assert r.returncode == 4 and "max_tokens" in r.stderr and "twice" in r.stderr


def test_a_hub_without_ranges_starts_over(default_model, hub, tmp_path):
    Hub.content, Hub.cut, Hub.ranges = open(default_model, "rb").read(), 5_000_000, False
    r = ingot("pull", "default", env=dict(HF_ENDPOINT=hub, HF_HUB_CACHE=str(tmp_path / "hub"), **NO_INDEX))
    assert r.returncode == 0 and open(r.stdout.strip(), "rb").read() == Hub.content, r.stderr


def test_names_in_the_cache_cannot_steer_a_terminal(tmp_path, monkeypatch):
    (tmp_path / "models--org--\x1b]0;owned\x07name").mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    t = Terminal("list")
    t.wait_for("name")
    assert "\x1b" not in t.seen and "\x07" not in t.seen
    assert t.end() == 0
