"""mock-llm: answers like OpenAI's chat completions, from scenarios that were written before."""
