"""The blocks of self-training methods (DACS, DAFormer, HRDA, MIC, SePiCo)."""
