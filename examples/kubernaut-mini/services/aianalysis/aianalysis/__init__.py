"""The AIAnalysis controller: brings each AIAnalysis object to a verdict."""
