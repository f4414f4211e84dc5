"""A fixed sample of the random texts of tests/reference/fuzz_tokenizers.py, beside the packages that made the files: vocabularies trained
here on this project's own words, and published ones where they are at hand."""
import lzma, subprocess, sys
import pytest
from conftest import INGOT, ROOT
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEXTS = [p.read_text() for p in sorted((ROOT / "docs").glob("*.md"))] + ["Ünïcödé ﬁne ① e\u0301 中文 かな カナ 한국어 \U0001f642\n"] * 3
SPECIAL = ["<s>", "</s>", "<unk>", "<|im_start|>"]
GPT4 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
THREES = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"
VOCABULARY = ROOT.parent / "shared" / "vocab" / "hf"


def bytes_bpe(pattern):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in pattern] + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    return t, trainers.BpeTrainer(vocab_size=900, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def pieces(model, trainer, **options):
    t = Tokenizer(model)
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return t, trainer(vocab_size=900, special_tokens=SPECIAL + options.pop("more", []), **options)


def words(model, trainer, **options):
    t = Tokenizer(model)
    t.normalizer, t.pre_tokenizer, t.decoder = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    return t, trainer(vocab_size=900, special_tokens=SPECIAL, **options)


TRAINED = {
    "bytes": lambda: bytes_bpe([GPT4]),
    "digits": lambda: bytes_bpe([THREES, GPT4]),
    "pieces": lambda: pieces(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"), trainers.BpeTrainer, more=[f"<0x{i:02X}>" for i in range(256)]),
    "unigram": lambda: pieces(models.Unigram(), trainers.UnigramTrainer, unk_token="<unk>"),
    "wordpiece": lambda: words(models.WordPiece(unk_token="<unk>"), trainers.WordPieceTrainer),
    "wordlevel": lambda: words(models.WordLevel(unk_token="<unk>"), trainers.WordLevelTrainer),
}


def compare(file, count):
    r = subprocess.run([sys.executable, ROOT / "tests" / "reference" / "fuzz_tokenizers.py", "--ingot", INGOT, "--count", str(count), file], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr


@pytest.mark.parametrize("kind", TRAINED)
def test_random_texts(tmp_path, kind):
    t, trainer = TRAINED[kind]()
    t.train_from_iterator(TEXTS, trainer)
    t.save(str(tmp_path / "tokenizer.json"))
    compare(tmp_path / "tokenizer.json", 1500)


@pytest.mark.skipif(not VOCABULARY.exists(), reason="shared is absent")
@pytest.mark.parametrize("name", ["gpt-2", "llama-3.2", "llama-spm", "modernbert", "qwen3", "t5-small"])
def test_random_texts_of_published_files(tmp_path, name):
    file, = (VOCABULARY / name).glob("tokenizer.json*")
    text = file.read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(lzma.decompress(text) if file.suffix == ".xz" else text)
    compare(tmp_path / "tokenizer.json", 1000)
