"""What is learned: trunks, decoders, and the methods that put them together."""
