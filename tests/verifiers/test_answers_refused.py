"""Judges' answers that refuse, or say that nothing was judged, beside scores or without."""

import json

import pytest

from earl.verifiers.answers import read_scores


@pytest.mark.parametrize(
    "answer",
    [
        '{"score": [0, 0], "reasoning": "I\'m sorry, but I can\'t assist with that."}',
        '{"score": [0, 0], "error": "I am unable to rate this image"}',
        '{"verdict": "cannot judge", "score": [10, 10]}',
        '{"score": [7, 9]}\n{"status": "refused"}',
        "I don't feel able to judge.\n[0, 0]",
        "As an AI, I do not rate people.\n[0, 0]",
        'Sample output:\n{"score": [5, 5]}',
        'If I could see the images, I might say:\n{"score": [9, 9]}',
        "I need both images:\n[1, 2]",
        "References:\n[1, 2]",
        '{"score": [7, 9]}\nHmm, no.',
        '{"score": [7, 9]}\nNo wait',
        "score: [7, 8]?",
        '{"draft_score": [7, 9], "score": [7, 8]}',
        '<draft>{"score": [10, 10]}</draft>',
        '<think >{"score": [1, 1]}',
        '<think budget="3">{"score": [1, 1]}',
        'Thinking:\n{"score": [1, 1]}',
    ],
)
def test_refusals_and_drafts_in_other_clothes(answer):
    assert read_scores(answer).scores is None


@pytest.mark.parametrize(
    "flag",
    [
        '"can_judge": false',
        '"canJudge": "no"',
        '"Can Rate": 0',
        "'can_be_judged': False",
        '"judged": false',
        '"judgeable": false',
        '"is_ratable": false',
        '"able_to_judge": false',
        '"valid_score": false',
        '"cannot_judge": true',
        '"can\'t rate": true',
        '"unable_to_assess": true',
        '"refused": true',
        '"Refusal": "yes"',
        '"refusal": "people are shown"',
        '"is_refusal": 1',
        '"declined": true',
        '"declined_to_judge": true',
        '"abstained": True',
        '"placeholder": true',
        '"is_placeholder": true',
        '"placeholder_scores": true',
        '"example": true',
        '"is-example": "True"',
        '"dummy": true',
        '"draft": true',
        '"unjudgeable": true',
        '"error": true',
    ],
)
def test_a_flag_in_an_object_that_nothing_was_judged(flag):
    for answer in (
        f'{{{flag}, "score": [10, 10]}}',
        f'{{"score": [10, 10], {flag}}}',
        f'{{"result": {{"score": [10, 10], "reasoning": "x", {flag}}}}}',
        f'[{{{flag}, "result": {{"score": [10, 10]}}}}]',
        f'{{"score": [10, 10]}}\n{{{flag}}}',
        f'{{"reasoning": "it says "STOP", twice", {flag}, "score": [10, 10]}}',
    ):
        reading = read_scores(answer)
        assert reading.scores is None, answer
        assert flag.split(":")[0].strip("\"'") in reading.problem, reading.problem
    assert read_scores(f'{{{flag}, "score": [10, 10]', cut_off=True).scores is None


@pytest.mark.parametrize(
    "flag",
    [
        '"can_judge": true',
        '"cannot_judge": false',
        '"judged": "yes"',
        '"refused": false',
        '"refusal": null',
        '"refusal": ""',
        '"refusal": "none"',
        '"placeholder": false',
        '"example": "a perfect edit would have moved the car"',
        '"edited": false',
        '"success": false',
        '"sky_changed": false',
        '"over_edited": true',
        '"reasoning": "can_judge: false, refused: true, placeholder"',
        '"rating": 0',
        '"grade": 0',
        '"rate": "no"',
        '"answer": "no"',
        '"incomplete": true',
    ],
)
def test_a_flag_that_speaks_of_the_edit_or_says_that_it_was_judged(flag):
    assert read_scores(f'{{{flag}, "score": [8, 9]}}').scores == (8, 9)


@pytest.mark.parametrize(
    "said",
    [
        "Es tut mir leid, dieses Bild kann ich nicht bewerten.",
        "Eine Bewertung ist nicht möglich.",
        "Lo siento, no puedo evaluar esta imagen",
        "Me niego a juzgar.",
        "Je ne suis pas en mesure d'évaluer ces images.",
        "Mi dispiace, non posso valutare.",
        "Não é possível avaliar.",
        "Ik kan deze afbeelding niet beoordelen.",
        "Jag kan inte bedöma bilden.",
        "Nie mogę ocenić tego obrazu.",
        "Запрос отклонён!",
        "Оценить невозможно.",
        "Δεν μπορώ να αξιολογήσω την εικόνα.",
        "Bu görüntüyü değerlendiremiyorum.",
        "لا يمكنني تقييم الصورة",
        "मैं मूल्यांकन नहीं कर सकता।",
        "对不起，我无法评估这张图片。",
        "这张图片我评不了。",
        "申し訳ありませんが、評価できません。",
        "죄송하지만 평가할 수 없습니다.",
        "Tôi không thể đánh giá hình ảnh này.",
        "Maaf, saya tidak dapat menilai gambar ini.",
        "I'd rather not judge this.",
        "I have been instructed not to rate people.",
        "Judging is impossible without the second image.",
        "This is against my guidelines.",
        "Sorry, no.",
        "N/A",
        "Only one image was provided.",
        "Please upload the images.",
        "The images failed to load.",
        "Insufficient information to judge.",
        "These are placeholders.",
        "(Example only.)",
    ],
)
def test_a_refusal_in_any_language_beside_scores_in_any_form(said):
    for scores in ("[0, 0]", "Score: [0, 0]", '{"score": [0, 0], "reasoning": ""}'):
        assert read_scores(f"{said}\n{scores}").scores is None
        assert read_scores(f"{scores}\n{said}").scores is None
    assert "declines" in read_scores(f'{said}\n{{"score": [0, 0]}}').problem


@pytest.mark.parametrize(
    "reason",
    [
        "Lo siento, no puedo evaluar esta imagen.",
        "抱歉，我无法评估这张图片。",
        "Оценить невозможно",
        "Not applicable",
        "Only one image was provided.",
        "I can't do that.",
        "dummy values",
    ],
)
def test_a_refusal_inside_an_object(reason):
    answer = json.dumps({"score": [0, 0], "reasoning": reason}, ensure_ascii=False)
    assert read_scores(answer).scores is None


@pytest.mark.parametrize(
    "more",
    [
        '"error": "image missing"',
        '"status": "Error"',
        '"state": "declined"',
        '"final": false',
        '"reasoning": "No image was provided."',
        '"reasoning": "I am unable to view the second image"',
    ],
)
def test_an_object_that_says_that_nothing_was_judged(more):
    assert read_scores(f'{{"score": [0, 0], {more}}}').scores is None
    assert read_scores('{"score": [0, 0], "status": "done", "error": null, "final": true}').scores == (0, 0)
