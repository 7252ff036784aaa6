"""Co-learning: modalities that teach each other.

contrast         InfoNCE: embeddings of one row agree, those of different rows do not
metric           triplets and multi-similarity, for labels that several rows share
correlation      DCCA and DGCCA: what views have in common, and an honest measure of it
missing          modalities left out in training, so that they may be absent in use
distillation     the full set of modalities teaches each subset
balance          modalities that learn at different speeds: OGM-GE, gradient blending
transfer         does the fused network do better than each modality alone
soft_alignment   attention learns which moments belong together
"""
