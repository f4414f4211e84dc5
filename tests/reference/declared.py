#!/usr/bin/env python3
"""Answers read as checkpoints declare it: transformers' parse_response beside `ingot parse`, recorded as tests/data/declared.jsonl.

    declared.py --ingot PROGRAM [--old CHAT_PARSING_UTILS.py] > tests/data/declared.jsonl

Needs transformers (5.23); --old is utils/chat_parsing_utils.py of 5.8, which still reads response_schema (it needs jmespath).
An answer that differs is an error unless its case says why: our rules never lose text, never fail and trim reasoning."""
import argparse, importlib.util, json, subprocess, sys, tempfile
from pathlib import Path


def call(n="{name}",a="{content}"): return {"type":"function","function":{"name":n,"arguments":a}}
TEMPLATES={
"cohere":{"defaults":{"role":"assistant"},"start_anchor":"<|CHATBOT|>","fields":{
  "content":{"open":"<|START_RESPONSE|>","close":"<|END_RESPONSE|>","content":"text"},
  "thinking":{"open":"<|START_THINKING|>","close":"<|END_THINKING|>"},
  "tool_calls":{"open":"<|START_ACTION|>","close":"<|END_ACTION|>","content":"json","transform_each":True,"transform":call("{tool_name}","{parameters}")}}},
"ernie":{"start_anchor":"Assistant:","fields":{
  "thinking":{"open_pattern":r"(?:^|<think>\s*)","close":"</think>"},
  "content":{"open":"<response>\n","close_pattern":r"\n?</response>"},
  "tool_calls":{"open":"<tool_call>","close":"</tool_call>","repeats":True,"content":"json","transform":{"type":"function","function":"{content}"}}}},
"gptoss":{"start_anchor":"<|start|>assistant","fields":{
  "thinking":{"open":"<|channel|>analysis<|message|>","close":"<|end|>"},
  "content":{"open":"<|channel|>final<|message|>","close":["<|end|>","<|return|>"]},
  "tool_calls":{"open_pattern":r"<\|channel\|>commentary to=functions\.(?P<name>\w+).*?<\|message\|>","close":"<|call|>","repeats":True,"content":"json","transform":call()}}},
"smollm":{"start_anchor":"<|im_start|>assistant\n","fields":{
  "thinking":{"open":"<think>","close":"</think>"},
  "tool_calls":{"open":"<tool_call>","close":"</tool_call>","repeats":True,"content":"json","transform":{"type":"function","function":"{content}"}},
  "content":{"close":"<|im_end|>"}}},
"qwen":{"start_anchor":"<|im_start|>assistant\n","fields":{
  "thinking":{"open":"<think>","close":"</think>"},
  "tool_calls":{"open_pattern":r"<tool_call>\s*<function=(?P<name>\w+)>","close":"</tool_call>","repeats":True,"content":"xml-inline",
    "content_args":{"tag_pattern":r"<parameter=(?P<key>\w+)>\s*(?P<value>.*?)\s*</parameter>","value_parser":{"name":"json","args":{"allow_non_json":True}}},"transform":call()},
  "content":{"close":["<|im_end|>"]}}},
"gemma":{"start_anchor":["<|turn>model\n","<tool_response|>"],"fields":{
  "thinking":{"open":"<|channel>thought\n","close":"<channel|>"},
  "tool_calls":{"open_pattern":r"<\|tool_call>call:(?P<name>\w+)","close":"<tool_call|>","repeats":True,"content":"json","content_args":{"unquoted_keys":True,"string_delims":[['<|"|>','<|"|>']]},"transform":call()},
  "content":{"close":["<turn|>","<|tool_response>","<eos>"]}}},
"inkling":{"start_anchor":"<|message_model|>","fields":{
  "thinking":{"open_pattern":r"(?:<\|message_model\|>)?[^<]*<\|content_thinking\|>","close":"<|end_message|>","repeats":True,"join":"","content_args":{"strip":False}},
  "content":{"open_pattern":r"(?:<\|message_model\|>)?[^<]*<\|content_text\|>","close":"<|end_message|>","repeats":True,"join":"","content_args":{"strip":False}},
  "tool_calls":{"open_pattern":r"(?:<\|message_model\|>)?[^<]*<\|content_invoke\|>","close":"<|end_message|>","repeats":True,"content":"json","transform":call("{content.name}","{content.args}")}}},
"kv":{"start_anchor":"A:","fields":{
  "tool_calls":{"open_pattern":r"CALL (?P<name>[\w.]+)\n","close":"END","repeats":True,"content":"kv-lines","content_args":{"kv_sep":"="},"transform":call()},
  "content":{}}},
"merge":{"start_anchor":"A:","fields":{
  "tool_calls":{"open_pattern":r"<call (?P<name>\w+)>","close":"</call>","repeats":True,"content":"xml-inline","content_args":{"tag_pattern":r"<(?P<key>\w+)>(?P<value>.*?)</\w+>","merge_duplicates":True},"transform":call()},
  "content":{}}},
}
tools=[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"s":{"type":"string"},"i":{"type":"integer"},"b":{"type":"boolean"},"l":{"type":"array","items":{"type":"string"}},"o":{"type":"object"},"n":{"type":["string","null"]}}}}},
       {"name":"g"},{"name":"python"}]  # as tests/unit/tokenizers/output.c has them
C=[]
def add(n,o,p="",t=None): C.append((n,o,p,t))
add("cohere",'<|START_THINKING|>I should.<|END_THINKING|><|START_ACTION|>[\n {"tool_call_id": "0", "tool_name": "f", "parameters": {"s": "C"}}\n]<|END_ACTION|>')
add("cohere",'<|START_THINKING|>I should.<|END_THINKING|><|START_RESPONSE|>Hi é 😀 there\n<|END_RESPONSE|>')
add("cohere",'still thinking<|END_THINKING|><|START_RESPONSE|>x<|END_RESPONSE|>',"<|U|>hi<|CHATBOT|><|START_THINKING|>")
add("cohere",'<|START_ACTION|>[{"tool_name": "f", "parameters": {"i": 1}}, {"tool_name": "g", "parameters": {}}]<|END_ACTION|>')
add("ernie",'The user asks.\n</think>\n\n<tool_call>\n{"name": "f", "arguments": {"s": "Paris"}}\n</tool_call>\n</s>'.replace('\n</s>',''))
add("ernie",'Think.\n</think>\n\n<response>\nHello!\n</response>\n')
add("ernie",'Think.\n</think>\n\n<response>\nHello!\n</response>\n',"User: x\nAssistant:<think>\n")
add("gptoss",'<|channel|>analysis<|message|>We need.<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\n "s": "SF"\n}')
add("gptoss",'<|channel|>analysis<|message|>We need.<|end|><|start|>assistant<|channel|>final<|message|>Hi<|return|>')
add("gptoss",'<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"i": "7"}<|call|>',"<|start|>assistant",tools)
add("smollm",'<think>\nOk\n</think>\n\n<tool_call>{"name": "f", "arguments": {"s": "x"}}</tool_call>')
add("smollm",'<think>\nOk\n</think>\n\nHello.<|im_end|>')
add("smollm",'Hello <b>there</b> < think> x')
add("smollm",'Ok\n</think>\nHello.',"<|im_start|>assistant\n<think>\n")
add("smollm",'\nHello.',"<|im_start|>assistant\n<think>\n\n</think>\n")
add("smollm",'<tool_call>{"name": "f", "arguments": {"s": "x"}}</tool_call>\n<tool_call>{"name": "f", "arguments": {"s": "y </tool"}}</tool_call>')
add("qwen",'<think>\nOk\n</think>\n\n<tool_call>\n<function=f>\n<parameter=s>\nParis\n</parameter>\n<parameter=i>\n3\n</parameter>\n</function>\n</tool_call>')
add("qwen",'<tool_call>\n<function=f>\n<parameter=s>\nParis\n</parameter>\n<parameter=o>\n{"a": [1, 2]}\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=g>\n</function>\n</tool_call>',"",tools)
add("gemma",'<|channel>thought\nhm<channel|><|tool_call>call:f{s:<|"|>a "b"\n<|"|>,l:[<|"|>x<|"|>],i:3}<tool_call|>')
add("gemma",'Hi there<turn|>',"<|turn>user\nq<turn|>\n<|turn>model\n")
add("gemma",'<|tool_call>call:f{o:{a:1,b:true}}<tool_call|><|tool_call>call:g{}<tool_call|>')
add("inkling",'<|content_thinking|>Let me.<|end_message|><|message_model|><|content_text|>Hello  <|end_message|><|message_model|>x<|content_text|> more<|end_message|>',"<|message_model|>")
add("inkling",'<|content_invoke|>{"name": "f", "args": {"s": "x"}}<|end_message|>',"<|message_model|>")
add("kv",'Look:\nCALL f\ns = a\ni= 3 \nEND')
add("kv",'CALL f\ns = a\ni= 3 \nb=true\nl=["x"]\nEND CALL x.y\nEND',"",tools)
add("merge",'<call f><s>a</s><l>x</l><l>y</l></call>')
add("merge",'<call f><s>7</s><i>7</i><i>8</i></call>',"",tools)

LOST = "text that no field catches is content"
KEPT = "what is no call is content, with a warning"
TRIM = "reasoning is trimmed"
AGAIN = "a tag that the prompt wrote may come again"
DIFFERS = {("Think.\n</think>\n\n<response>\nHello!\n</response>\n", "User: x\nAssistant:<think>\n"): AGAIN}
SCHEMA_DIFFERS = {"Nothing declared.": LOST, "U.\n</think>\n\n<tool_call>{bad</tool_call>": KEPT,
                  '<|channel>thought\nhm\n<channel|><|tool_call>call:f{s:<|"|>a "b"<|"|>,l:[<|"|>x<|"|>],i:3}<tool_call|>': TRIM,
                  "<|channel>thought\nhm\n<channel|>Hi there<turn|>": TRIM}
# name, output, prompt's tail, why it differs; cut: the length limit ended it
OWN = [
    ("smollm", 'A <tool_call>{"name": "f", "arguments": {"s": 1}</tool_call> B', "", KEPT, False),
    ("smollm", 'A <tool_call>{"name": "f"', "", KEPT, True),
    ("smollm", 'A <tool_call>{"name": "f"', "", KEPT, False),
    ("smollm", 'A <tool_call>{"name": "f"}</tool_c', "", KEPT, True),
    ("smollm", "<think>x", "", "unclosed", True),
    ("smollm", "A <think>r</think> B <think>q</think> C\n<|im_end|>\n", "", LOST, False),
    ("smollm", "<think>\nmore</think>z", "<think>\n", AGAIN, False),
    ("cohere", "Hm <|START_ACTION|>[]<|END_ACTION|> z<|END", "", LOST, False),
    ("cohere", "  Plain \n", "", LOST, False),
    ("cohere", "x<|CHATBOT|>y", "", LOST, False),
    ("qwen", "<tool_call>\n<function=f>\n<parameter=s>a</parameter><parameter=i>4", "", KEPT, False),
    ("qwen", "<tool_call>\n<function=f>\n<parameter=s>a</parameter>\n</function>", "", KEPT, False),
    ("qwen", "<tool_call>\n<function=f>\n<parameter=s>a</parameter><parameter=i>4", "", KEPT, True),
]
fnitems={"type":"object","properties":{"type":{"const":"function"},"function":{"type":"object","properties":{"name":{"type":"string"},"arguments":{"type":"object","additionalProperties":{}}}}}}
SCHEMAS={
"s_cohere":{"type":"object","properties":{"role":{"const":"assistant"},"content":{"type":"string","x-regex":r"<\|START_RESPONSE\|>(.*?)(?:<\|END_RESPONSE\|>|$)"},"thinking":{"type":"string","x-regex":r"<\|START_THINKING\|>(.*?)(?:<\|END_THINKING\|>|$)"},"tool_calls":{"x-regex":r"<\|START_ACTION\|>(.*?)(?:<\|END_ACTION\|>|$)","x-parser":"json","x-parser-args":{"transform":"[*].{type: 'function', function: {name: tool_name, arguments: parameters}}"},"type":"array","items":fnitems}}},
"s_ernie":{"type":"object","properties":{"content":{"type":"string","x-regex":"<response>\n(.*?)\n?</response>"},"thinking":{"type":"string","x-regex":r"(?:^|<think>\s*)(.*?)\s*<\/think>"},"tool_calls":{"x-regex-iterator":"<tool_call>(.*?)</tool_call>","type":"array","items":dict(fnitems,**{"x-parser":"json","x-parser-args":{"transform":"{type: 'function', function: @}"}})}}},
"s_qwen":{"x-regex":r"^(?:(?:<think>)?\s*(?P<thinking>.+?)\s*</think>)?\s*(?:<tool_call>(?P<tool_calls>.*?)\s*</tool_call>)?\s*(?P<content>.+?)?\s*$","type":"object","properties":{"role":{"const":"assistant"},"content":{"type":"string"},"thinking":{"type":"string"},"tool_calls":{"x-regex-iterator":r"^(.*)$","type":"array","items":{"type":"object","properties":{"type":{"const":"function"},"function":{"type":"object","properties":{"name":{"type":"string","x-regex":r"<function=(\w+)>"},"arguments":{"type":"object","x-regex-key-value":r"<parameter=(?P<key>\w+)>\n(?P<value>.*?)\n</parameter>","additionalProperties":{"x-parser":"json","x-parser-args":{"allow_non_json":True}}}}}}}}}},
"s_gptoss":{"type":"object","properties":{"content":{"type":"string","x-regex":r"<\|channel\|>final<\|message\|>(.*?)(?:<\|end\|>|$)"},"thinking":{"type":"string","x-regex":r"<\|channel\|>analysis<\|message\|>(.*?)<\|end\|>"},"tool_calls":{"x-regex-iterator":r"<\|channel\|>commentary (to=functions\..*?<\|message\|>.*?)(?:<\|call\|>|$)","type":"array","items":{"type":"object","properties":{"type":{"const":"function"},"function":{"type":"object","properties":{"name":{"type":"string","x-regex":r"^to=functions\.(\w+)"},"arguments":{"type":"object","x-regex":r"<\|message\|>(.*)","x-parser":"json","additionalProperties":{}}}}}}}}},
"s_gemma":{"type":"object","properties":{"thinking":{"type":"string","x-regex":r"<\|channel>thought\n(.*?)<channel\|>"},"content":{"type":"string","x-regex-substitutions":[[r"<\|channel>.*?<channel\|>",""],[r"<\|tool_call>.*?<tool_call\|>",""]],"x-regex":r"^\s*(.+?)\s*(?:<turn\|>|$)"},"tool_calls":{"x-regex-iterator":r"<\|tool_call>(.*?)<tool_call\|>","type":"array","items":{"type":"object","properties":{"type":{"const":"function"},"function":{"type":"object","x-regex":r"call\:(?P<name>\w+)(?P<arguments>\{.*\})","properties":{"name":{"type":"string"},"arguments":{"type":"object","x-parser":"gemma4-tool-call","additionalProperties":{}}}}}}}}},
}
SCHEMA_CASES=[("s_cohere",'<|START_THINKING|>I should.<|END_THINKING|><|START_ACTION|>[\n {"tool_call_id": "0", "tool_name": "f", "parameters": {"s": "C"}}, {"tool_name": "g", "parameters": {}}]<|END_ACTION|>'),
("s_cohere",'<|START_THINKING|>I.<|END_THINKING|><|START_RESPONSE|>Hi<|END_RESPONSE|>'),
("s_cohere",'Nothing declared.'),
("s_ernie",'The user.\n</think>\n\n<tool_call>\n{"name": "f", "arguments": {"s": "Paris"}}\n</tool_call>\n<tool_call>{"name": "g", "arguments": {}}</tool_call>'),
("s_ernie",'U.\n</think>\n\n<response>\nHello!\n</response>\n'),
("s_ernie",'U.\n</think>\n\n<tool_call>{bad</tool_call>'),
("s_qwen",'<think>\nOk\n</think>\n\n<tool_call>\n<function=f>\n<parameter=s>\nParis\n</parameter>\n<parameter=i>\n3\n</parameter>\n</function>\n</tool_call>'),
("s_qwen",'Hello there\n'),
("s_qwen",'<think>\nOk\n</think>\n\nHi'),
("s_gptoss",'<|channel|>analysis<|message|>We.<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"s": 1}<|call|>'),
("s_gptoss",'<|channel|>analysis<|message|>We.<|end|><|start|>assistant<|channel|>final<|message|>Hi'),
("s_gemma",'<|channel>thought\nhm\n<channel|><|tool_call>call:f{s:<|"|>a "b"<|"|>,l:[<|"|>x<|"|>],i:3}<tool_call|>'),
("s_gemma",'<|channel>thought\nhm\n<channel|>Hi there<turn|>'),
]

REFUSED = [
    ({"response_template": {"fields": {"x": {"open": ""}}, "start_anchor": "a"}}, "response_template.fields.x.open"),
    ({"response_template": {"fields": {"x": {"open_pattern": "("}}, "start_anchor": "a"}}, "response_template.fields.x.open_pattern"),
    ({"response_template": {"fields": {"x": {"open": "a", "shut": "b"}}, "start_anchor": "a"}}, "shut"),
    ({"response_template": {"fields": {"x": {}, "y": {}}, "start_anchor": "a"}}, "response_template.fields.y"),
    ({"response_template": {"fields": {"x": {"open": "a", "content": "yaml"}}, "start_anchor": "a"}}, "yaml"),
    ({"response_template": {"fields": {"x": {"open": "a", "content": "xml-inline"}}, "start_anchor": "a"}}, "content_args.tag_pattern"),
    ({"response_template": {"fields": {"x": {"open": "a", "transform": {"y": "a {content}"}}}, "start_anchor": "a"}}, "a {content}"),
    ({"response_template": {"fields": {"x": {"open": "a"}}}}, "start_anchor"),
    ({"response_template": {"version": 2, "fields": {"x": {}}, "start_anchor": "a"}}, "version"),
    ({"response_template": "no"}, "response_template"),
    ({"response_schema": {"type": "object", "properties": {"content": {"x-mapping": {}}}}}, "response_schema.properties.content"),
    ({"response_schema": {"type": "object", "properties": {"content": {"x-regex": "(a)(b)"}}}}, "x-regex"),
    ({"response_schema": {"type": "object", "x-parser": "json", "x-parser-args": {"transform": "length(@)"}}}, "transform"),
    ({"response_schema": {"type": "array"}}, "response_schema"),
]


def ingot(program, declaration, cases):
    with tempfile.TemporaryDirectory() as folder:
        config = {"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}", **declaration}
        Path(folder, "tokenizer_config.json").write_text(json.dumps(config))
        r = subprocess.run([program, "parse", folder, "--jsonl"], input="\n".join(map(json.dumps, cases)), capture_output=True, text=True, check=True)
    return [json.loads(line) for line in r.stdout.splitlines()]


def message(m):
    return [m.get("thinking", ""), m.get("content", ""), [[c["function"]["name"], c["function"]["arguments"]] for c in m.get("tool_calls") or []]]


def record(program, declaration, cases, judge):
    """cases: {"output", "prompt_tail", "tools", "cut", "differs"}"""
    fed = [{k: c[k] for k in ("output", "prompt_tail", "tools") if c.get(k)} | ({"finish_reason": "length"} if c.get("cut") else {}) for c in cases]
    out = []
    for c, got in zip(cases, ingot(program, declaration, fed)):
        own = [got["reasoning"], got["content"], [[t["name"], t["arguments"]] for t in got["tool_calls"]]]
        if judge:
            try:
                theirs = message(judge(c))
            except Exception as e:
                theirs = str(e)
            if theirs != own and not c.get("differs"):
                sys.exit(f"{c['output']!r}\n  transformers {theirs}\n  ingot        {own}")
        out.append({k: c[k] for k in ("output", "prompt_tail", "cut", "differs") if c.get(k)} | ({"tools": True} if c.get("tools") else {}) |
                   {"reasoning": own[0], "content": own[1], "calls": own[2], "warnings": [[w["kind"], w["text"]] for w in got["warnings"]]})
    print(json.dumps({**declaration, "cases": out}, ensure_ascii=False))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--ingot", required=True)
    p.add_argument("--old")
    a = p.parse_args()
    from transformers.utils.chat_parsing import parse_response
    for name, template in TEMPLATES.items():
        cases = [{"output": c[1], "prompt_tail": c[2], "tools": c[3], "differs": DIFFERS.get(c[1:3])} for c in C if c[0] == name]
        cases += [{"output": c[1], "prompt_tail": c[2], "differs": c[3], "cut": c[4]} for c in OWN if c[0] == name]
        record(a.ingot, {"response_template": template}, cases, lambda c: parse_response(c["output"], template, prefix=c["prompt_tail"], tools=c.get("tools")))
    judge = None
    if a.old:
        spec = importlib.util.spec_from_file_location("old", a.old)
        old = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(old)
        judge = old.recursive_parse
    for name, schema in SCHEMAS.items():
        cases = [{"output": c[1], "prompt_tail": "<|start|>assistant", "differs": SCHEMA_DIFFERS.get(c[1])} for c in SCHEMA_CASES if c[0] == name]
        record(a.ingot, {"response_schema": schema}, cases, judge and (lambda c: judge(c["output"], schema)))
    for declaration, word in REFUSED:
        print(json.dumps({**declaration, "refused": word}))


if __name__ == "__main__":
    main()
