"""The caller's client as one object, with the same requests, responses, errors and bulk writes for both engines."""
