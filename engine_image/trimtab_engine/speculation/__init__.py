"""Speculative decoding: who guesses, whether it changes nothing, and whether it pays.

The engines guess and check each in its own way; what is the same for all of them is here.
"""
