"""Mutation testing of the books: which wrong code would the tests let through?"""
