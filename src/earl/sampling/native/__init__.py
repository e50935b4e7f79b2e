"""The native engine: sampling on the policy's own weights."""
