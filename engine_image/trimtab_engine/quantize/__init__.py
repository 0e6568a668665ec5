"""`trimtab-engine quantize`: a smaller model from a folder, used only when the engine says that it means the same.

`program` is the command, `schemes` what there is to choose from, `text` what the rounding learns from and what both
models are asked about afterwards. `rounding` and `scoring` run in processes of their own, because each holds a whole
model, and the memory must be free before the next begins.
"""
