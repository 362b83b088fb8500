"""Garden: a long conversation to look at, which begins with a name.

In: nothing. Out: `CONVERSATION`, a system message and twelve turns about vegetables on a balcony, 500 tokens or so.
Knows nothing of models; it was written for a small one, which tells the name as long as the first turn is sent.
"""

from __future__ import annotations

from chatlab.messages import Message, assistant, system, user

__all__ = ["CONVERSATION"]

_TURNS = [
    (
        "My name is Ana. I want to grow vegetables on my balcony.",
        "Hello Ana! Your name is Ana, and you want to grow vegetables on your balcony. That is a good plan.",
    ),
    ("What is easy to grow?", "Radishes, lettuce and beans are easy. Radishes are ready after only four weeks."),
    (
        "How much sun do they need?",
        "Beans need six hours of sun a day. Lettuce and radishes are happy with three or four hours.",
    ),
    (
        "My balcony faces east. Is that enough?",
        "Yes. In the east you have sun all morning, which is enough for lettuce, radishes and herbs.",
    ),
    (
        "Which pots should I buy?",
        "Take pots that are at least 20 centimetres deep, with a hole at the bottom so that water can run off.",
    ),
    (
        "What about the soil?",
        "Buy potting soil without peat. Soil from the park is too heavy for pots, and it often has seeds of weeds in "
        "it.",
    ),
    (
        "When can I start?",
        "In the middle of April. If a cold night comes, cover the pots with an old sheet until the morning.",
    ),
    (
        "How often should I water?",
        "Put a finger into the soil. If it is dry two centimetres down, water it, in the morning if you can.",
    ),
    (
        "There are small green insects on the beans.",
        "Those are aphids. Wash them off with water, and look again after two days. A few of them do no harm.",
    ),
    (
        "Can I grow tomatoes too?",
        "Yes, small ones, in a large pot at the sunniest place. Tie them to a stick and keep the rain off the leaves.",
    ),
    (
        "When do I harvest the lettuce?",
        "After six to eight weeks. Take only the outer leaves, then the plant goes on growing.",
    ),
    (
        "What can I plant in autumn?",
        "Spinach and lamb's lettuce. Both like it cool, and you can harvest them until the first snow.",
    ),
]
CONVERSATION: tuple[Message, ...] = (
    system("You are a helpful assistant. Answer the user briefly."),
    *(message for question, answer in _TURNS for message in (user(question), assistant(answer))),
)
