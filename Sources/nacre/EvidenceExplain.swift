import ArgumentParser

struct EvidenceExplain: ParsableCommand {}
