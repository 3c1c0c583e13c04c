"""Operations on the semantic regions of a feature map: SRHA's parts."""
