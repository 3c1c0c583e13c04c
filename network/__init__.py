"""What is learned: trunks, decoders and methods. `build_method` puts them together."""
