"""Made messages in other languages, beside English ones that only look odd.

"I only speak English" is the right answer to a message in another language and to nothing else. So
foreign sentences are made from many words, and English with foreign names, rare words, slips of
the keyboard and loan words is answered as English.
"""

from __future__ import annotations

import random

from training.made.everyday import small_talk
from training.made.words import FOODS, capital, hurried, listed, name, pick, talk, town
from training.sources import Turn

ENGLISH_PLEASE = "I'm sorry, I only speak English. Can you write that in English?"

# Of each language: sentences with a gap, what may fill it, and sentences without one.
_LANGUAGES: tuple[tuple[tuple[str, ...], str, tuple[str, ...]], ...] = (
    (("Me gusta mucho {}.", "Donde esta {}?", "Quiero comprar {}.", "No tengo {}.", "Que es {}?",
      "Hablame de {}.", "¿Dónde puedo encontrar {}?", "Necesito {} para mañana."),
     "el_perro la_casa el_pan un_libro la_playa el_tren mi_llave una_mesa el_mercado la_escuela",
     ("¿Qué hora es?", "Estoy muy cansado hoy.", "Cuéntame un chiste", "Buenas tardes, señor",
      "Me llamo Pilar y vivo en Sevilla.", "¿Puedes escribir una carta?", "hasta luego")),
    (("J'aime {}.", "Où est {} ?", "Je cherche {}.", "Qu'est-ce que c'est, {} ?", "Il y a {} ici.",
      "Parle-moi de {}.", "Je voudrais {}, s'il vous plaît.", "Nous avons {}."),
     "le_chien la_maison le_pain un_livre la_plage le_train ma_clef une_table le_marché l'école",
     ("Quelle heure est-il ?", "Je suis content de te voir.", "Raconte-moi une histoire",
      "Bonne nuit, à demain", "Je m'appelle Luc et j'habite à Lyon.", "merci beaucoup", "ça va ?")),
    (("Ich mag {} sehr.", "Wo ist {}?", "Ich suche {}.", "Was kostet {}?", "Erzähl mir von {}.",
      "Wir brauchen {} für morgen.", "Hast du {} gesehen?", "Ich habe {} verloren."),
     "das_Haus das_Brot ein_Buch die_Schule meine_Tasche das_Auto die_Zeitung mein_Handy",
     ("Wie spät ist es?", "Ich bin heute sehr müde.", "Erzähl mir einen Witz", "Gute Nacht",
      "Ich heiße Uwe und wohne in Köln.", "danke schön", "tschüss")),
    (("Mi piace {}.", "Dov'è {}?", "Cerco {}.", "Che cos'è {}?", "Vorrei {}, per favore.",
      "Parlami di {}.", "Non trovo {}."),
     "il_cane la_casa il_pane un_libro la_spiaggia il_treno la_chiave una_tavola il_mercato",
     ("Che ore sono?", "Oggi sono molto stanco.", "Raccontami una storia", "buona notte a tutti",
      "Mi chiamo Piero e abito a Torino.", "Puoi aiutarmi con una lettera?", "ci vediamo domani")),
    (("Eu gosto de {}.", "Onde fica {}?", "Preciso de {}.", "Fale sobre {}.", "Você tem {}?"),
     "pão água um_livro uma_casa música café um_carro dinheiro flores",
     ("Que horas são?", "Estou cansado hoje.", "Conte uma piada", "Boa noite", "Tudo bem com você?",
      "Meu nome é Davi e moro em Recife.", "muito obrigado pela ajuda")),
    (("Ik hou van {}.", "Waar is {}?", "Ik zoek {}.", "Vertel me over {}.", "Heb je {} gezien?"),
     "de_hond het_huis brood een_boek het_strand de_trein mijn_sleutel een_tafel de_markt",
     ("Hoe laat is het?", "Ik ben vandaag erg moe.", "Vertel een grap", "Goedenavond",
      "Ik woon in Utrecht.", "Kun je mij helpen met een brief?")),
    (("Lubię {}.", "Gdzie jest {}?", "Szukam {}.", "Opowiedz mi o {}."),
     "dom pies książka chleb morze pociąg klucz stół szkoła",
     ("Która godzina?", "Jestem dziś zmęczony.", "Dobranoc", "Bardzo dziękuję za pomoc")),
    (("Ben {} seviyorum.", "{} nerede?", "Bana {} hakkında bilgi ver."),
     "köpek ev ekmek kitap deniz tren anahtar masa okul",
     ("Saat kaç?", "Bugün çok yorgunum.", "İyi geceler", "Yardım eder misin?", "çok teşekkürler")),
    (("Saya suka {}.", "Di mana {}?", "Saya mencari {}.", "Ceritakan tentang {}."),
     "anjing rumah roti buku pantai kereta kunci meja sekolah",
     ("Jam berapa sekarang?", "Selamat pagi", "Terima kasih banyak", "Apa kabar?")),
    (("Jag gillar {}.", "Var är {}?", "Jag letar efter {}.", "Berätta om {}."),
     "hunden huset brödet en_bok stranden tåget nyckeln skolan",
     ("Vad är klockan?", "Jag är trött idag.", "God natt", "Kan du hjälpa mig?", "vi ses imorgon")),
    (("Мне нравится {}.", "Где {}?", "Расскажи про {}."),
     "дом собака хлеб книга море поезд школа",
     ("Который час?", "Я очень устал.", "Спокойной ночи", "Как дела?", "Спасибо большое")),
    (("{}が好きです。", "{}はどこですか？", "{}について教えて"),
     "犬 家 本 海 電車 学校 音楽",
     ("今何時ですか？", "今日は疲れました。", "おやすみなさい", "手伝ってください", "ありがとう")),
    (("{} 좋아해요.", "{} 어디에 있어요?"), "개 집 책 바다 기차 학교 음악",
     ("지금 몇 시예요?", "오늘 피곤해요.", "안녕히 주무세요", "도와주세요", "고마워요")),
    (("أحب {}", "أين {}؟"), "البيت الكلب الكتاب البحر المدرسة",
     ("كم الساعة؟", "أنا متعب اليوم", "تصبح على خير", "شكرا جزيلا", "كيف حالك؟")),
    (("मुझे {} पसंद है", "{} कहाँ है?"), "घर कुत्ता किताब समुद्र स्कूल",
     ("कितने बजे हैं?", "आज मैं थका हूँ", "शुभ रात्रि", "आप कैसे हैं?", "बहुत धन्यवाद")),
)  # fmt: skip


def foreign(draw: random.Random) -> list[Turn]:
    """A message in another language; now and then the user goes on in English."""
    wordings, fills, plain = draw.choice(_LANGUAGES)
    if draw.random() < 0.6:
        asked = capital(draw.choice(wordings).format(draw.choice(listed(fills))))
    else:
        asked = draw.choice(plain)
    lines = [hurried(asked, draw), ENGLISH_PLEASE]
    if draw.random() < 0.4:
        turns = draw.choice((small_talk, odd_english))(draw)
        lines += [turn["content"] for turn in turns]
    return talk(*lines)


_LOANS = listed("""
croissant pizza karaoke kindergarten siesta fiesta sushi origami tsunami ballet cafe burrito tofu
yoga safari sauna ski piano opera espresso gelato paella kimono samurai haiku bagel kebab yogurt
""")
_WHO_ASKS = listed("friend neighbour teacher uncle boss cousin colleague grandmother")


def odd_english(draw: random.Random) -> list[Turn]:
    """English that has something foreign or garbled in it, and a plain answer."""
    loan, who, place = draw.choice(_LOANS), name(draw), town(draw)
    kin, food = draw.choice(_WHO_ASKS), draw.choice(FOODS)
    asked, answer = draw.choice(
        (
            (pick(draw, f"I love {loan}.", f"i really like {loan}", f"{capital(loan)} is great!"),
             f"{capital(loan)}! What do you like most about it?"),
            (pick(draw, f"My {kin} {who} comes from {place}.", f"my {kin} {who} lives in {place}"),
             f"How nice! Do you visit {who} in {place} sometimes?"),
            (pick(draw, f"{who} is my {kin}.", f"My {kin} is called {who}.", f"{who} is my {kin}"),
             f"Say hello to {who} from me!"),
            (pick(draw, f"I had {food} with {who} today.", f"{who} and I ate {food}"),
             f"I hope you and {who} enjoyed the {food}!"),
            (pick(draw, f"I am in {place} right now.", f"Greetings from {place}!"),
             f"Greetings to {place}! How is it there?"),
            (pick(draw, f"Do you know {place}?", f"Have you been to {place}?"),
             f"I can't travel, I am a program. What is {place} like?"),
            (pick(draw, f"Do you know {who}?", f"Have you heard of {who}?", f"do u know {who}"),
             f"I don't know {who}. Who is that?"),
            (pick(draw, f"Where is {who} from?", f"What is {who} doing?", f"How is {who}?"),
             f"I can't know that. I only know what you tell me about {who}."),
        )
    )  # fmt: skip
    return talk(asked, answer)
