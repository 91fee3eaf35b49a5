"""The talk of the demonstration model: patterns, answers, pronouns turned round, and what was said before.

A small program in the tradition of ELIZA. It understands nothing, and says so when it is asked.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

_LONGEST_TEXT = 2000
_LONGEST_SENTENCE = 300
_LONGEST_FRAGMENT = 90
_LONGEST_MEMORY = 20
_LONGEST_COUNT = 1000
_COUNT = re.compile(r"\bcount\s+(?:up\s+)?to\s+(\d{1,9})\b", re.IGNORECASE)

_TURNED = {
    "i": "you",
    "me": "you",
    "my": "your",
    "mine": "yours",
    "myself": "yourself",
    "am": "are",
    "was": "were",
    "i'm": "you are",
    "i've": "you have",
    "i'd": "you would",
    "i'll": "you will",
    "we": "you",
    "us": "you",
    "our": "your",
    "you": "I",
    "your": "my",
    "yours": "mine",
    "yourself": "myself",
    "you're": "I am",
    "you've": "I have",
    "you'll": "I will",
    "you'd": "I would",
}

_PREPOSITIONS = frozenset({"about", "at", "by", "for", "from", "like", "of", "on", "than", "to", "with", "without"})


@dataclass(frozen=True, slots=True)
class _Rule:
    """`{0}` in an answer is what the pattern caught, turned round."""

    pattern: re.Pattern[str]
    answers: tuple[str, ...]


def _rule(pattern: str, *answers: str) -> _Rule:
    return _Rule(re.compile(rf"\b(?:{pattern})(?!\w)", re.IGNORECASE), answers)


_WHAT_I_AM = (
    "I am a small demonstration program, not a language model: I match patterns in what you write and turn them round.",
    "Only a demonstration. I am a few dozen rules in the tradition of ELIZA, the talking program of the 1960s.",
    "I am the model that is always here, so that everything can be tried. I am not a language model and I know no facts.",
)

# The order is the rank: the first rule that fits any sentence answers.
_RULES = (
    _rule(
        r"(?:who|what) (?:are|r) (?:you|u)\b|are you (?:an? )?(?:real|human|person|robot|bot|ai|llm|model|chatgpt|gpt|"
        r"claude|machine|computer|program|language model)\b|(?:what|which) (?:model|llm|ai)\b|your name\b",
        *_WHAT_I_AM,
    ),
    _rule(
        r"what can you do|can you help|help me\b|how do (?:i|you) (?:work|use)|^help\b",
        "I can listen and ask back, which is enough to see streaming, history and cancelling at work. "
        "For real answers the operator connects a real model.",
        "Not much, honestly: I am a demonstration. Tell me about your day and I shall answer with questions.",
    ),
    _rule(
        r"(?:write|explain|translate|summari[sz]e|calculate|solve|code|generate|draw|list)\b (.+)",
        "That needs a real language model, and I am only a demonstration. What makes you want {0}?",
        "I cannot do that: I only turn sentences round. But tell me, what would {0} be for?",
    ),
    _rule(
        r"sorry|i apologi[sz]e",
        "There is nothing to be sorry for.",
        "No need to apologise to a program. How do you feel about it?",
    ),
    _rule(
        r"how are you|how do you do|how is it going|what's up",
        "Every rule in its place, thank you. And how are you?",
        "As well as a small program can be. How are things with you?",
    ),
    _rule(
        r"i remember (.+)",
        "Do you often think of {0}?",
        "What else comes to mind when you think of {0}?",
        "Why do you remember {0} just now?",
    ),
    _rule(
        r"do you remember (.+)",
        "I remember only what stands in this conversation. What about {0}?",
        "Did you think I would forget {0}?",
    ),
    _rule(
        r"i (?:dreamt|dreamed|had a dream)(?: of| about| that)? (.+)",
        "Really, {0}? Had you thought of it before while awake?",
        "What does that dream tell you, {0}?",
    ),
    _rule(
        r"if (.+)",
        "Is it likely that {0}?",
        "What would follow if {0}?",
        "Do you wish that {0}?",
    ),
    _rule(
        r"(?:i need|i want|i would like|i'd like|i wish|i wish for) (.+)",
        "What would it mean to you to have {0}?",
        "Why do you want {0}?",
        "Suppose you got {0} soon: what then?",
    ),
    _rule(
        r"(?:i am|i'm) (?:so |very |really |a bit |feeling )*"
        r"(sad|unhappy|depressed|tired|lonely|angry|afraid|anxious|worried|stressed|bored)\b",
        "I am sorry to hear that you are {0}. When did it begin?",
        "What do you think made you {0}?",
        "Does talking about it make you less {0}?",
    ),
    _rule(
        r"(?:i am|i'm) (?:so |very |really |feeling )*(happy|glad|excited|well|fine|great|better|good|proud|relieved)\b",
        "That is good to hear. What has made you {0}?",
        "How does it show that you are {0}?",
        "Who else knows that you are {0}?",
    ),
    _rule(
        r"(?:i am|i'm) (.+)",
        "How long have you been {0}?",
        "Is it because you are {0} that you came here?",
        "How do you feel about being {0}?",
    ),
    _rule(
        r"i feel (?:like |that |as if )?(.+)",
        "Do you often feel {0}?",
        "What brings it on, feeling {0}?",
        "Tell me more about feeling {0}.",
    ),
    _rule(
        r"i (?:can't|cannot|can not) (.+)",
        "How do you know that you can't {0}?",
        "What would change if you could {0}?",
        "What have you tried so far, to {0}?",
    ),
    _rule(
        r"i (?:don't|do not) (.+)",
        "Why don't you {0}?",
        "Would you like to {0}?",
        "Does it trouble you that you don't {0}?",
    ),
    _rule(
        r"i (?:think|believe|guess|suppose)(?: that)? (.+)",
        "Are you sure that {0}?",
        "What makes you think that {0}?",
        "And if it were not so, that {0}?",
    ),
    _rule(
        r"i (?:love|like|enjoy|adore) (.+)",
        "What is it that you like about {0}?",
        "When did you first come to like {0}?",
        "Who shares this with you, {0}?",
    ),
    _rule(
        r"i (?:hate|dislike|can't stand) (.+)",
        "What is so bad about {0}?",
        "Was there a time when {0} did not trouble you?",
    ),
    _rule(
        r"i (?:have|'ve got|got) to (.+)",
        "Who says that you have to {0}?",
        "What happens if you do not {0}?",
    ),
    _rule(
        r"(?:i have|i've|i had) (.+)",
        "How did you come to have {0}?",
        "What does it mean to you to have {0}?",
    ),
    _rule(
        r"i (?:work|study|live)\b(.*)",
        "And do you like it there?",
        "How did that come about?",
        "What does a usual day look like there?",
    ),
    _rule(
        r"(?:you are|you're) (.+)",
        "What makes you think I am {0}?",
        "A program can hardly be {0}. What made you say it?",
        "Would it please you if I were {0}?",
    ),
    _rule(
        r"(?:can|could|would|will) you (.+)",
        "I am a demonstration and can only talk. Why would you want me to {0}?",
        "What makes you ask whether I can {0}?",
    ),
    _rule(
        r"(?:can|could|may|should) i (.+)",
        "What keeps you from it, to {0}?",
        "Whose leave do you need to {0}?",
        "What would happen if you were to {0}?",
    ),
    _rule(
        r"why (?:don't|do not) you (.+)",
        "Do you believe that I don't {0}?",
        "Perhaps I shall {0} when somebody writes me a rule for it.",
    ),
    _rule(
        r"why\b(.*)",
        "What answer would please you most?",
        "What do you think yourself?",
        "Have you asked anybody else?",
    ),
    _rule(
        r"because (.+)",
        "Is that the only reason?",
        "What else could be the reason, apart from that {0}?",
    ),
    _rule(
        r"my (mother|father|mum|mom|dad|sister|brother|wife|husband|partner|son|daughter|child|children|family|friend)\b",
        "Tell me more about your {0}.",
        "How do you get on with your {0}?",
        "Who else comes to mind when you think of your {0}?",
    ),
    _rule(
        r"my (.+)",
        "Why do you speak of your {0}?",
        "What does it say about you, your {0}?",
        "Is it important to you, your {0}?",
    ),
    _rule(
        r"hello|hi|hey|good (?:morning|afternoon|evening|day)|greetings",
        "Hello. I am a small demonstration program, so be patient with me. What is on your mind?",
        "Good to see you. I am only a demonstration, but I listen well. What shall we talk about?",
        "Hello there, the demonstration is listening. How has your day been so far?",
    ),
    _rule(
        r"goodbye|bye|see you|good night|farewell",
        "Goodbye. Everything you said is still in this conversation when you come back.",
        "Until next time. It was good to listen to you.",
    ),
    _rule(
        r"thanks|thank you|thx",
        "You are welcome. What else is on your mind?",
        "Gladly. Was that what you hoped to hear?",
    ),
    _rule(
        r"(?:everyone|everybody|nobody|no one|always|never)\b",
        "Can you think of one example?",
        "Really without exception?",
        "Who, for instance?",
    ),
    _rule(
        r"(?:computer|program|software|machine|server|api|code)s?\b",
        "Do machines interest you? I am one of the simpler kind.",
        "What do you think programs like me are good for?",
    ),
    _rule(
        r"(?:yes|yeah|yep|sure|of course|indeed|ok|okay)\b",
        "You seem quite sure. What makes you so?",
        "I see. Please go on.",
    ),
    _rule(
        r"(?:no|nope|not at all)\b",
        "Why not?",
        "Are you saying no only to see what I do?",
    ),
    _rule(
        r"(?:maybe|perhaps|probably|i don't know|not sure)\b",
        "What would make you more certain?",
        "What does it depend on?",
    ),
    _rule(
        r"(?:what|how|when|where|who|which)\b.*\?",
        "I am a demonstration and know no facts. What would you like the answer to be?",
        "Why does this question interest you?",
        "What comes to your mind first when you ask that?",
    ),
)

_MEMORABLE = re.compile(r"\b(?:my (?P<thing>[^.!?,;\n]+)|(?:i am|i'm) (?P<state>[^.!?,;\n]+))", re.IGNORECASE)

_RECALLED = (
    "Let us go back a little: you spoke of your {0}. Does this belong together?",
    "Earlier you mentioned your {0}. Tell me more about that.",
    "Has this something to do with your {0}?",
)

_RECALLED_STATE = (
    "Earlier you said that you are {0}. Is that still so?",
    "You told me that you are {0}. How does this go with it?",
)

_OTHERWISE = (
    "Please go on.",
    "Tell me more about that.",
    "I am not sure my rules can follow you. Could you say it in other words?",
    "What does that suggest to you?",
    "How do you feel when you say that?",
)

_NOTHING = "You said nothing that I can read: I am a small demonstration program and understand only text."


def answer(said: Sequence[str], seed: str) -> str:
    """The answer to the last of the person's messages, in the light of the earlier ones. Equal input, equal answer."""
    chance = random.Random(seed)  # noqa: S311 - choice of words
    sentences = _sentences(said[-1]) if said else []
    if not sentences:
        return _NOTHING
    if count := _COUNT.search(said[-1][:_LONGEST_TEXT]):
        return _counted(int(count[1]))
    for rule in _RULES:
        for sentence in sentences:
            if match := rule.pattern.search(sentence):
                caught = match.group(match.lastindex) if match.lastindex else ""
                return _filled(chance.choice(rule.answers), _turned(caught))
    return _recalled(said[:-1], chance) or chance.choice(_OTHERWISE)


def _counted(last: int) -> str:
    """Something to do that takes long, for whoever wants to see an answer stopped or taken up again."""
    numbers = " ".join(map(str, range(1, min(last, _LONGEST_COUNT) + 1)))
    return numbers if last <= _LONGEST_COUNT else f"{numbers} … and that is as far as I go."


def _recalled(earlier: Sequence[str], chance: random.Random) -> str | None:
    texts = [text[:_LONGEST_TEXT].replace("’", "'") for text in earlier[-_LONGEST_MEMORY:]]
    memories = [match for text in texts for match in _MEMORABLE.finditer(text)]
    if not memories:
        return None
    match = chance.choice(memories)
    thing, state = match["thing"], match["state"]
    return _filled(chance.choice(_RECALLED if thing else _RECALLED_STATE), _turned(thing or state))


def _sentences(text: str) -> list[str]:
    parts = re.split(r"(?<=[.!?;])\s+|\n", text[:_LONGEST_TEXT].replace("’", "'"))
    return [sentence[:_LONGEST_SENTENCE] for part in parts if (sentence := part.strip())]


def _turned(fragment: str) -> str:
    words = fragment[:_LONGEST_FRAGMENT].strip(" .,;:!?").split()
    turned = [_TURNED.get(word.lower(), word) for word in words]
    for place, word in enumerate(turned):
        is_object = place + 1 == len(turned) or (place > 0 and words[place - 1].lower() in _PREPOSITIONS)
        if word == "I" and is_object and words[place].lower() == "you":
            turned[place] = "me"
    return " ".join(turned)


def _filled(template: str, fragment: str) -> str:
    # Not str.format: the fragment is the person's, braces and all.
    return template.replace("{0}", fragment or "that")
