"""Where a model's files come from: the cache folder, the download, the conversion.

In: nothing, or a GGUF file. Out: a folder of standard files (safetensors, tokenizer.json) that Transformers reads.
Knows nothing of prompts, sampling or replies.
"""
