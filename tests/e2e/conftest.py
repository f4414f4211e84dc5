"""Drives the program as users do. Models: a tiny one drawn from seeds (tests/golden/make_expected.py), and the default model
where it can be fetched."""
import importlib.util, json, os, pathlib, shutil, signal, socket, struct, subprocess, time
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
INGOT = os.environ.get("INGOT", str(ROOT / "build" / "ingot"))
EMULATED = pathlib.Path(INGOT).parent / "tests" / "emulated"
CARD_TOKENS = [[5, 9, 13, 2, 77, 3, 8, 1, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50], [7, 8, 9]]  # tokens.json beside the emulated card
IDS = [[3, 50, 255, 0, 17, 90], [7] * 12, [1]]


def golden():
    spec = importlib.util.spec_from_file_location("make_expected", ROOT / "tests" / "golden" / "make_expected.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_weights(folder, weights):
    """model.safetensors from {name: array}."""
    header, data = {}, b""
    for name, w in weights.items():
        header[name] = {"dtype": "F32", "shape": list(w.shape), "data_offsets": [len(data), len(data) + w.nbytes]}
        data += w.tobytes()
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_tiny(folder, context=512, **what):
    g = golden()
    c = g.BASE | dict(positions=context) | what
    write_weights(folder, g.weights(c))
    (folder / "config.json").write_text(json.dumps(dict(
        model_type="llama", hidden_size=c["hidden"], intermediate_size=c["inter"], num_hidden_layers=c["layers"], num_attention_heads=c["heads"],
        num_key_value_heads=c["kv"], head_dim=c["head_dim"], vocab_size=c["vocab"], max_position_embeddings=context, rms_norm_eps=1e-5,
        tie_word_embeddings=True, torch_dtype="float32")))
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    other = iter(range(256, 512))
    vocab = {chr(b if b in plain else next(other)): b for b in range(256)}
    special = [dict(id=256, content="<|im_start|>", special=True, normalized=False), dict(id=257, content="<|im_end|>", special=True, normalized=False)]
    (folder / "tokenizer.json").write_text(json.dumps(dict(
        added_tokens=special, normalizer=None, pre_tokenizer=dict(type="ByteLevel", add_prefix_space=False, use_regex=True), post_processor=None,
        decoder=dict(type="ByteLevel"), model=dict(type="BPE", merges=[], vocab=vocab | {"<|im_start|>": 256, "<|im_end|>": 257}))))
    template = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
                "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(eos_token="<|im_end|>", chat_template=template)))
    return folder


def write_model(folder, **what):
    """A folder without tokenizer: one of the golden test's models."""
    g = golden()
    c = g.BASE | what
    folder.mkdir()
    write_weights(folder, g.weights(c))
    (folder / "config.json").write_text(json.dumps(dict(
        model_type="mistral" if c["window"] else "llama", hidden_size=c["hidden"], intermediate_size=c["inter"], num_hidden_layers=c["layers"],
        num_attention_heads=c["heads"], num_key_value_heads=c["kv"], head_dim=c["head_dim"], vocab_size=c["vocab"], rope_theta=c["theta"],
        max_position_embeddings=c["positions"], rms_norm_eps=c["eps"], tie_word_embeddings=c["tied"], attention_bias=c["bias"], mlp_bias=c["mlp_bias"],
        hidden_act=c["act"], rope_scaling=c["rope"], sliding_window=c["window"] or None)))
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return str(write_tiny(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session")
def default_model():
    r = subprocess.run([INGOT, "pull", "default"], capture_output=True, text=True, timeout=900)
    if r.returncode == 6:
        pytest.skip("default model cannot be fetched")
    assert r.returncode == 0, r.stderr
    return r.stdout.strip()


def ingot(*arguments, stdin="", env=None, timeout=120, **more):
    return subprocess.run([INGOT, *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=timeout,
                          env=os.environ | (env or {}), **more)


def convert(source, target, *options):
    r = ingot("convert", source, target, *options)
    assert r.returncode == 0, r.stderr
    return target


def logits(model, folder, *options, ids=IDS):
    """[every token, vocabulary]; without options by the reference"""
    (folder / "ids.json").write_text(json.dumps(ids))
    r = ingot("logits", model, "--tokens", folder / "ids.json", "--out", folder / "out.npy", *(options or ["--reference"]))
    assert r.returncode == 0, r.stderr
    return np.load(folder / "out.npy")


def rel(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def typical(a, b):
    """The middle one of the tokens' relative errors: in a mixture, rounding may send a single token to other experts."""
    error, size = np.linalg.norm(a - b, axis=-1), np.linalg.norm(b, axis=-1)
    return np.median(error[size > 0] / size[size > 0])


def tensors(model, field):
    return {t["name"]: t[field] for t in map(json.loads, ingot("inspect", model, "--tensors", "--json").stdout.splitlines()[1:])}


def types_of(model):
    return tensors(model, "type")


def shapes_of(model):
    return tensors(model, "shape")


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    """Runs the program beside the emulated library: the real one lies beside build/ingot."""
    folder = tmp_path_factory.mktemp("card")
    for file in (pathlib.Path(INGOT), EMULATED / "libingot-cuda.so", EMULATED / "libcuda.so.1"):
        shutil.copy(file, folder)
    (folder / "tokens.json").write_text(json.dumps(CARD_TOKENS))

    def run(*arguments, code=0, env=None, stdin=""):
        r = subprocess.run([folder / "ingot", *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=300, cwd=folder,
                           env=os.environ | {"LD_LIBRARY_PATH": str(folder)} | (env or {}))
        assert r.returncode == code, r.stderr
        return r

    def logits(model, *arguments, **more):
        run("logits", model, "--tokens", "tokens.json", "--out", "out.npy", *arguments, **more)
        return np.load(folder / "out.npy")

    run.logits = logits
    run.folder = folder
    return run


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, *arguments, program=INGOT, env=None):
        self.port = free_port()
        self.process = subprocess.Popen([program, "serve", *map(str, arguments), "--port", str(self.port)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | (env or {}))
        for _ in range(400):
            if self.process.poll() is not None:
                raise RuntimeError(self.process.stderr.read())
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("the server did not start")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def client(self, **more):
        import openai
        return openai.OpenAI(base_url=self.url + "/v1", api_key=more.pop("api_key", "none"), max_retries=0, timeout=60, **more)

    def resident(self):
        return int(open(f"/proc/{self.process.pid}/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self, wait=15):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(wait)
        return code, self.process.stderr.read()


@pytest.fixture
def serve():
    started = []

    def start(*arguments, **how):
        started.append(Server(*arguments, **how))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


@pytest.fixture(scope="module")
def server(tiny):
    s = Server(tiny, "--alias", "tiny", "--parallel", "6")
    yield s
    code, log = s.stop()
    assert code == 0, log
