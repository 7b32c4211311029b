"""What the metadata of each GGUF architecture amount to in the keys of config.json.

The facts are those of ggml-org/llama.cpp: conversion/*.py for what a file says, src/models/*.cpp for what it leaves
unsaid.
"""
