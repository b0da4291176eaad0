#!/usr/bin/python3
"""Records the routers of a mixture-of-experts model in PyTorch as a trace (docs/recording_traces.md).

    scripts/record_trace.py MODEL --prompt "Once" --max-new-tokens 64 --out FILE.safetensors
    scripts/record_trace.py MODEL --text BOOK.txt --context 2048 --out FILE.safetensors
    scripts/record_trace.py --module MINE.py:make --tokens 1,5,7 --max-new-tokens 64 --out FILE.safetensors

MODEL is a folder or a name that Hugging Face's transformers can load.
"""

import argparse
import contextlib
import math
import sys

USER_ERROR, INTERRUPTED = 2, 130
NEW_TOKENS = 64


class Usage(Exception):
    pass


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Usage(f"{message} (see record_trace.py --help)")


def at_least(least, kind=int, below=math.inf, shown=""):
    """`shown`: how a message writes the bound `below`."""

    def read(text):
        try:
            if least <= kind(text) < below:
                return kind(text)
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"expected a number >= {least}{shown}, got {text}")

    return read


def arguments_of(argv):
    parser = Parser(prog="record_trace.py", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL", help="a folder or a name for transformers")
    add("--module", metavar="FILE.py:FACTORY", help="a function that returns a torch.nn.Module instead")
    add("--out", required=True, metavar="FILE", help="the trace")
    add_tokens(parser)
    add("--router", metavar="NAME_OR_REGEX", help="the routers, where they are not found by themselves")
    add("--output", choices=["auto", "logits", "probabilities", "sigmoid"], default="auto",
        help="what the routers return")
    add("--next-layer-logits", action="store_true",
        help="also what the next layer's router says of each layer's input")
    add("--dtype", choices=["auto", "F32", "F16", "BF16"], default="auto", help="of the logits in the file")
    add("--gate", choices=list("ABCDEFG"), help="gate code (docs/glossary.md)")
    add("--top-k", type=at_least(1), metavar="K", help="experts that the model runs per token")
    add("--model-name", metavar="NAME", help="what the trace calls the model")
    add("--device", default="cpu", help="of PyTorch: cpu, cuda")
    add("--trust-remote-code", action="store_true", help="let transformers run code that comes with the model")
    return parser.parse_args(argv)


def add_tokens(parser):
    given = parser.add_mutually_exclusive_group(required=True).add_argument
    given("--prompt", action="append", metavar="TEXT", help="generate from it; repeat for more sequences")
    given("--text", action="append", metavar="FILE", help="run through it; repeat for more sequences")
    given("--tokens", action="append", metavar="IDS", help="ids instead of text; repeat for more sequences")
    add = parser.add_argument
    add("--max-new-tokens", type=at_least(0), metavar="N",
        help=f"tokens to generate after each ({NEW_TOKENS} after --prompt, else 0)")
    add("--prefill", type=at_least(0), metavar="N",
        help="of the given tokens the first N are prompt, the others count as decoded "
             "(all where tokens are generated, else 0)")
    add("--context", type=at_least(1), metavar="N", help="cut a text into sequences of N tokens")
    add("--temperature", type=at_least(0, float, shown=" and finite"), default=0.0, metavar="T",
        help="draw tokens; 0, the default, takes the best")
    add("--seed", type=at_least(0, below=2**63, shown=" and < 2^63"), default=1, metavar="N")


def check_usage(arguments):
    if (arguments.model is None) == (arguments.module is None):
        raise Usage("expected MODEL or --module FILE.py:FACTORY, got " + ("both" if arguments.model else "neither"))
    if arguments.context and not arguments.text:
        raise Usage("--context: expected --text beside it, got none")


def require_torch():
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise Usage(f"expected PyTorch (Debian's python3-torch), got: {error}") from None


def sequences_of(arguments, source):
    """Lists of token ids."""
    from record_file import wrong
    from record_models import encoded, numbers, text_of

    if arguments.tokens:
        return [numbers(text) for text in arguments.tokens]
    if source.encode is None:
        needed = "a module whose factory also returns a function text -> ids"
        raise wrong("--prompt, --text", needed, "none: take --tokens")
    texts = arguments.prompt or [text_of(file) for file in arguments.text]
    found = [encoded(source, text, f"text {i}") for i, text in enumerate(texts)]
    if arguments.context is None:
        return found
    n = arguments.context
    return [ids[start : start + n] for ids in found for start in range(0, len(ids), n)]


def progress(total):
    """A bar on a terminal; nothing elsewhere, or where tqdm (Debian's python3-tqdm) is missing."""
    try:
        import tqdm
    except ImportError:
        return contextlib.nullcontext()
    return tqdm.tqdm(total=total, unit="token", disable=None)


def record(arguments, source, recorder):
    import torch

    from record_models import chooser, play

    sequences = sequences_of(arguments, source)
    new = arguments.max_new_tokens
    new = (NEW_TOKENS if arguments.prompt else 0) if new is None else new
    choose = chooser(arguments.temperature, arguments.seed)
    total = sum(len(ids) + new for ids in sequences)
    with torch.no_grad(), progress(total) as bar:
        for i, ids in enumerate(sequences):
            prefill = arguments.prefill
            prefill = (len(ids) if new else 0) if prefill is None else prefill
            for tokens in play(source, recorder, i, ids, prefill, new, choose):
                if bar is not None:
                    bar.update(tokens)


def provenance(arguments):
    import torch

    how = "prompts" if arguments.prompt else "given text" if arguments.text else "given tokens"
    return f"scripts/record_trace.py, PyTorch {torch.__version__}, {how}"


def run(arguments):
    import record_file
    import record_models
    import record_routers

    record_file.check_place(arguments.out)
    record_models.check_device(arguments.device)
    if arguments.module:
        source = record_models.from_file(arguments.module, arguments.device)
    else:
        source = record_models.from_transformers(arguments.model, arguments.device, arguments.trust_remote_code)
    routers = record_routers.find_routers(source.model, arguments.router)
    top_k = arguments.top_k or record_models.top_k_of(source.config)
    with record_routers.Recorder(
        source.model, routers, arguments.output, arguments.next_layer_logits, top_k
    ) as recorder:
        record(arguments, source, recorder)
        tensors = recorder.tensors(arguments.dtype)
        metadata = record_models.metadata_of(
            source, recorder, model_name=arguments.model_name, gate=arguments.gate,
            provenance=provenance(arguments),
        )  # fmt: skip
    record_file.write_trace(arguments.out, tensors, metadata)
    report(metadata, tensors)


def report(metadata, tensors):
    tokens, layers, experts = tensors["router_logits"][1].shape
    prefill = int((tensors["phase"][1] == 0).sum())
    what = f"{tokens} tokens ({prefill} of a prompt), {layers} layers, {experts} experts"
    print(f"record_trace.py: {what}", file=sys.stderr)
    for key, option in (("gate", "--gate"), ("top_k", "--top-k")):
        if key not in metadata:
            print(f"record_trace.py: {key} is unknown and left out; name it by {option}", file=sys.stderr)


def main(argv):
    line, status = None, USER_ERROR
    try:
        arguments = arguments_of(argv)
        check_usage(arguments)
        require_torch()
        from record_file import RecordError
    except Usage as error:
        print(f"record_trace.py: error: {error}", file=sys.stderr)
        return USER_ERROR
    try:
        run(arguments)
        return 0
    except RecordError as error:
        line = str(error)
    except KeyboardInterrupt:
        line, status = "interrupted: nothing is written", INTERRUPTED
    print(f"record_trace.py: error: {line}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
