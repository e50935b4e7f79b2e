"""The plain twin: one sample, the stock forward over the whole sequence at each id, no cache.

With guidance two of them, one after each prompt.
"""

import torch

from earl.records import Completion
from earl.sampling.native.draw import draw, guide, stream_keys
from earl.sequence.grammar import Grammar


@torch.no_grad()
def complete(model, tokenizer, request, seed, sampling) -> Completion:
    vocabulary = tokenizer.vocabulary
    state = Grammar(tokenizer, request.prefill, request.grid, request.max_text_tokens).start()
    ids, logprobs = [], []
    while not state.done:
        kind, forced = state.allowed
        if kind == "forced":
            token, logprob = forced, 0.0
        else:
            start = vocabulary.first_visual if kind == "visual" else 0
            stop = start + vocabulary.codebook_size if kind == "visual" else vocabulary.first_visual
            logits = _next(model, request.prompt, ids)[:, start:stop]
            if kind == "visual" and sampling.guidance != 1:
                negative = _next(model, request.negative_prompt, ids)[:, start:stop]
                logits = guide(logits, negative, sampling.guidance)
            found = draw(logits, stream_keys([seed], [len(ids)]), sampling, start)
            token, logprob = found[0].item(), found[1].item()
        ids.append(token)
        logprobs.append(logprob)
        state.advance(token)
    stopped = state.problem is None or ids[-1] >= vocabulary.first_special
    return Completion(tuple(ids), tuple(logprobs), "stop" if stopped else "length", seed)


def _next(model, prompt, ids):
    return model(input_ids=torch.tensor([[*prompt, *ids]])).logits[:, -1].float()
