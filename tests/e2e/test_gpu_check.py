"""scripts/gpu-check on the emulated card: a model that comes in two parts, one at a time. EMULATED=1 scripts/gpu-check runs the rest."""
import csv, os, pathlib, subprocess
import pytest
from conftest import ROOT, ingot


@pytest.fixture
def check(tmp_path, tiny):
    assert ingot("convert", tiny, tmp_path / "tiny.gguf").returncode == 0
    folders = dict(PACK=tmp_path / "pack", KEEP=tmp_path / "kept", RESULTS=tmp_path / "results")

    def run(*stages, code=0, **env):
        r = subprocess.run([ROOT / "scripts" / "gpu-check", *stages], capture_output=True, text=True, timeout=600,
                           env=os.environ | {k: str(v) for k, v in (folders | env).items()} | {"EMULATED": "1"})
        assert r.returncode == code, r.stdout + r.stderr
        return {row["name"]: row["value"] for path in folders["RESULTS"].glob("*.csv") for row in csv.DictReader(path.open())}

    run.folder = tmp_path
    return run


def test_a_model_in_two_parts(check):
    parts = check.folder / "pack" / "model"
    check("pack", MODEL=check.folder / "tiny.gguf")
    first, second = (pathlib.Path(parts / f"model.gguf.{i}") for i in range(2))
    whole = (check.folder / "tiny.gguf").read_bytes()
    assert first.read_bytes() + second.read_bytes() == whole and abs(first.stat().st_size - second.stat().st_size) < 2
    later = second.read_bytes()
    second.unlink()  # a tree that brings the first
    assert check("answer") == {"skipped": "part 2 of 2 of the model is absent"}
    check("keep")
    first.unlink()  # and another that brings the second
    second.write_bytes(later[:-1] + b"?")
    assert check("answer") == {"skipped": "the model's parts are not of one model, or damaged"}
    second.write_bytes(later)
    got = check("answer")
    assert got["same words"] == got["sampled"] == got["reference"] == got["cuda"] == "passed"
    second.unlink()
    (check.folder / "kept" / "model.gguf.0").unlink()
    assert check("answer") == {"skipped": "the model is absent"}
    check("keep", code=0)  # the checksum alone
    check("nonsense", code=2)
