"""The few-shot prompts of packaged base models: what makes a text predictor answer questions."""

from __future__ import annotations

from experts.cards import FewShotPrompt

GEMMA_270M = FewShotPrompt(
    preamble="Answer each question as briefly as possible.",
    # Grouped by kind: a small model copies the form of what it saw last.
    examples=(
        ("What is 12 + 9?", "21"),
        ("How many hours are in 2 days?", "48"),
        ("Is ice warmer than steam? Answer yes or no.", "no"),
        ("Which day comes after Saturday?", "Sunday"),
        ("Write the word 'stone' in capital letters. Write nothing else.", "STONE"),
        (
            "Answer in JSON with the keys name and job: Eva is a pilot.",
            '{"name": "Eva", "job": "pilot"}',
        ),
        ('Who sold the boat? "In May Olga sold her boat to Mr Lind."', "Olga"),
        ('Extract the date: "The fair begins on 2 July at noon."', "2 July"),
        (
            'Is this review positive or negative? "The bread was stale and the coffee weak."',
            "negative",
        ),
        (
            "Classify the sentiment as positive or negative: "
            '"The staff was kind and the food was great."',
            "positive",
        ),
        ("What is the capital of Japan?", "Tokyo"),
        ("Which city is the capital of Ireland?", "Dublin"),
        ("Translate 'bread' to Spanish.", "pan"),
        ("What is the Spanish word for 'street'?", "calle"),
        ("What is the opposite of 'tall'?", "short"),
        ("Give the antonym of 'cheap'.", "expensive"),
        ("What is the past tense of 'sing'?", "sang"),
        ("Give the past tense of the verb take.", "took"),
    ),
    question_prefix="Question: ",
    answer_prefix="Answer:",
    stop=("\nQuestion:", "\n\n"),
)
