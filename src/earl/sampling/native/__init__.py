"""The native engine: sampling on the weights of the policy itself."""
