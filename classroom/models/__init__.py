"""The embedded language model: its corpus and its task, and how it is made, loaded and fine-tuned.

corpus      a grammar that says the same thing in many ways
task        the fine-tuning task: pairs, splits, exact match
pairs       a user's own pairs from a JSONL file
train_tiny  the script that makes the model
load        one call for the embedded model, a folder, or any model of the hub
trouble     what can be wrong with a model, explained in words
sizes       bytes that a model and its training hold
files       files that are written whole or not at all
adapter     save a LoRA adapter, and load it onto its base again
finetune    full, LoRA and QLoRA with the libraries, and the proof that they learn the task
"""
