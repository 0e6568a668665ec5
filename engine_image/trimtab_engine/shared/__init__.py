"""What the processes of one server tell each other, through files of its run folder.

The API servers write the wanted limits (`wanted`), the engine's process reads them before each step and writes what it
does on a board of its own (`board`). Each writer replaces or owns its file, so that no reader can see half of anything,
and none waits for another.
"""
