"""Comparison of any implementation of the token format with the vectors and the kernel (docs/conformance.md).

A **question** is a line of JSON: a token, a request, a view of the state and a time. An **answer** is the
decision. A **judge** is a program that reads questions from its standard input and writes answers.
"""
