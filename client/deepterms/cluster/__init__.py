"""The caller's client as one object: requests, answers, errors and bulk writes alike on both engines."""
