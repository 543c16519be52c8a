"""A space for tests that run whole searches: its networks are tiny."""

# It holds no published network, which a search would time before its first: on a busy machine, that takes a minute.
SMALL_SPACE = """
about: Tiny forms of STDC.
citation: Fan et al., "Rethinking BiSeNet For Real-time Semantic Segmentation", 2021
parameters:
  family: [stdc]
  stdc.width: [0.0625, 0.09375, 0.125]
  stdc.stage3_modules: [1, 2]
  stdc.stage4_modules: [1, 2, 3]
  stdc.stage5_modules: [1, 2]
"""
