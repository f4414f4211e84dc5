#!/usr/bin/env python3
"""Writes tests/reference/smollm2.json: what Hugging Face transformers answers with the default model's own weights.

The GGUF file is dequantised by `ingot convert --to safetensors --type f32`; transformers then runs the folder in float32,
greedily, on the prompts of prompts.json. Kept for each: the prompt's ids as transformers' tokenizer and template make them, the
answer's ids, and by how much the best logit led at each of them. tests/e2e/test_reference.py compares. Needs torch and
transformers:

    python3 tests/reference/record.py [--ingot build/ingot]
"""
import argparse, json, os, pathlib, subprocess, tempfile

HERE = pathlib.Path(__file__).resolve().parent
TOKENS = 48


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--ingot", default=str(HERE.parents[1] / "build" / "ingot"))
    a = p.parse_args()
    import torch, transformers
    torch.set_grad_enabled(False)
    prompts = json.load(open(HERE / "prompts.json", encoding="utf-8"))
    path = subprocess.run([a.ingot, "pull", "default"], check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as t:
        folder = os.path.join(t, "model")
        subprocess.run([a.ingot, "convert", path, folder, "--to", "safetensors", "--type", "f32"], check=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        ends = model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        cases = []
        for text in prompts:
            messages = [{"role": "user", "content": text}]
            rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            ids = tokenizer.encode(rendered, add_special_tokens=False)
            tokens, margins, step, past = [], [], torch.tensor([ids]), None
            while len(tokens) < TOKENS:
                out = model(step, past_key_values=past, use_cache=True)
                past, best = out.past_key_values, out.logits[0, -1].topk(2)
                tokens.append(int(best.indices[0]))
                margins.append(round(float(best.values[0] - best.values[1]), 4))
                if tokens[-1] in ends:
                    break
                step = torch.tensor([[tokens[-1]]])
            cases.append({"prompt": text, "ids": ids, "tokens": tokens, "margins": margins})
            print(f"{len(ids)} + {len(tokens)}: {tokenizer.decode(tokens)[:70]!r}")
    head = {"model": os.path.basename(path), "source": f"transformers {transformers.__version__}, torch {torch.__version__}, float32, greedy",
            "ends": sorted(ends)}
    lines = ",\n".join("  " + json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in cases)
    with open(HERE / "smollm2.json", "w", encoding="utf-8") as f:
        f.write(json.dumps(head, indent=1)[:-2] + ',\n "cases": [\n' + lines + "\n ]\n}\n")


if __name__ == "__main__":
    main()
