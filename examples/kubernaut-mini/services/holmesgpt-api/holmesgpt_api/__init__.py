"""holmesgpt-api: asks a language model what is wrong and which workflow would put it right."""
