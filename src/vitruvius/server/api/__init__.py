"""Models over HTTP, for clients of OpenAI's and Anthropic's interfaces.

Requests come in on an event loop (`application`), are read by the tables of what each endpoint takes (`fields` and the
files of the endpoints), and go as `inference.request.Request`s to the one thread that runs models (`worker`). What it
writes comes back token by token (`ticket`), is told apart into text, reasoning and calls of tools, and is put into the
form that the client expects.
"""
