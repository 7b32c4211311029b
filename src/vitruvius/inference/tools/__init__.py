"""Calls of tools in what a model writes.

`reading` has a function for each way to spell a call, `formats` the table of the forms that models have, and `finding`
finds calls in a text as it comes. A call is given out when it is complete, in one piece; one that is cut off is none.
"""
