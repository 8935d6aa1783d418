/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_CLASSIFY_PROMPTS_H
#define TESTS_GATEWAY_CLASSIFY_PROMPTS_H

/*
 * Prompts with the class that a person gave them, written before the classifier. Half of them ('t')
 * may be looked at while it is tuned; the others ('h') are held back and only counted.
 *
 *	S  simple: a fact, a greeting, one sentence turned into another, a sum: any small model does
 *it M  moderate: a text for a purpose, an explanation, a summary, a small piece of code C  complex:
 *several steps that depend on each other, a proof, a design with conflicting demands, a fault to be
 *found in code, many conditions at once
 */
struct classify_prompt {
	char part;  /* 't' or 'h' */
	char class; /* 'S', 'M' or 'C' */
	const char *text;
};

static const struct classify_prompt classify_prompts[] = {
	/* ---- simple ---- */
	{'t', 'S', "hi"},
	{'h', 'S', "Hello there, how are you doing today?"},
	{'t', 'S', "What is the capital of Australia?"},
	{'h', 'S', "Who wrote Pride and Prejudice?"},
	{'t', 'S', "Translate to French: Where is the nearest train station?"},
	{'h', 'S', "How do you say 'good night' in Italian?"},
	{'t', 'S', "What's 17 * 24?"},
	{'h', 'S', "convert 72 fahrenheit to celsius"},
	{'t', 'S', "Give me a synonym for happy."},
	{'h', 'S', "Define the word 'ubiquitous'."},
	{'t', 'S', "Fix the spelling: I recieved teh package yesterday adn it was brokn."},
	{'h', 'S', "Is 91 a prime number?"},
	{'t', 'S', "thanks, that was helpful!"},
	{'h', 'S', "ok"},
	{'t', 'S', "When did the Second World War end?"},
	{'h', 'S', "How many legs does a spider have"},
	{'t', 'S',
		"Is the following review positive or negative? \"The battery died after two days "
		"and "
		"nobody answered my mails.\""},
	{'h', 'S',
		"Classify the sentiment as positive, neutral or negative: 'The soup was fine, I "
		"guess.'"},
	{'t', 'S', "What does HTTP stand for?"},
	{'h', 'S', "which is larger, the sun or the moon?"},
	{'t', 'S', "List three primary colours."},
	{'h', 'S', "Name five fruits that are red."},
	{'t', 'S', "Write a haiku about autumn."},
	{'h', 'S', "Tell me a joke about cats."},
	{'t', 'S', "Was ist die Hauptstadt von Kanada?"},
	{'h', 'S', "Wie sp\xc3\xa4t ist es in Tokio, wenn es in Berlin 12 Uhr ist?"},
	{'t', 'S',
		"\xc3\x9c"
		"bersetze ins Englische: Ich habe heute keine Zeit."},
	{'h', 'S', "Guten Morgen!"},
	{'t', 'S', "Quelle est la capitale du Portugal ?"},
	{'h', 'S', "Qui a peint la Joconde ?"},
	{'t', 'S',
		"\xc2\xbf"
		"Cu\xc3\xa1ntos d\xc3\xad"
		"as tiene un a\xc3\xb1o bisiesto?"},
	{'h', 'S', "Traduce al ingl\xc3\xa9s: Me gusta mucho el caf\xc3\xa9."},
	{'t', 'S', "Qual \xc3\xa8 il fiume pi\xc3\xb9 lungo d'Italia?"},
	{'h', 'S',
		"\xd0\x9a\xd1\x82\xd0\xbe \xd0\xbd\xd0\xb0\xd0\xbf\xd0\xb8\xd1\x81\xd0\xb0\xd0\xbb "
		"\xd0\x92\xd0\xbe\xd0\xb9\xd0\xbd\xd1\x83 \xd0\xb8 \xd0\xbc\xd0\xb8\xd1\x80?"},
	{'t', 'S',
		"\xe4\xb8\xad\xe5\x9b\xbd\xe7\x9a\x84\xe9\xa6\x96\xe9\x83\xbd\xe6\x98\xaf\xe5\x93"
		"\xaa"
		"\xe9\x87\x8c\xef\xbc\x9f"},
	{'h', 'S', "remind me what the chemical symbol for gold is"},

	/* ---- moderate ---- */
	{'t', 'M',
		"Write a polite email to my landlord asking him to repair the heating in the "
		"bedroom. It "
		"has been cold for a week, and mention that I called twice."},
	{'h', 'M',
		"Write a short product description for a stainless steel water bottle that keeps "
		"drinks "
		"cold for 24 hours. Friendly tone, around 80 words."},
	{'t', 'M', "Explain the difference between TCP and UDP."},
	{'h', 'M', "Explain how a refrigerator works to a ten year old."},
	{'t', 'M', "Write a Python function that returns the n-th Fibonacci number."},
	{'h', 'M', "Write a bash script that renames all .jpeg files in a folder to .jpg."},
	{'t', 'M',
		"Summarize the following text in three sentences:\n\nThe city council met on "
		"Tuesday to "
		"discuss the new cycle lanes. Residents of the northern districts had complained "
		"that the "
		"lanes were narrow and ended without warning at the bridge. The council agreed to "
		"widen "
		"two of the lanes and to paint the crossings, but the extension across the bridge "
		"was put "
		"off until the budget of next year is known. A representative of the shopkeepers "
		"said "
		"that deliveries must remain possible in the morning. The mayor thanked all of "
		"them for "
		"a calm discussion and announced a visit to the site in spring."},
	{'h', 'M',
		"Please summarise this for my manager as bullet points:\n\nWe had a call with the "
		"supplier "
		"this morning. They can deliver the first 200 units by the 14th, the rest will "
		"follow in "
		"two batches in December. The price per unit stays the same but shipping goes up "
		"by about "
		"four percent because of the new carrier. They asked us to confirm the colours by "
		"Friday. "
		"Anna will check with marketing, and I said that we would need the packaging "
		"samples "
		"before we confirm anything. They also offered a small discount if we order the "
		"spare "
		"parts together with the first batch."},
	{'t', 'M', "What are the pros and cons of working from home?"},
	{'h', 'M',
		"What are the advantages and disadvantages of electric cars compared to petrol "
		"cars?"},
	{'t', 'M', "Suggest a three day itinerary for Lisbon with a small child."},
	{'h', 'M', "Plan a vegetarian dinner menu for six people, with a shopping list."},
	{'t', 'M', "Why do leaves change colour in autumn? Explain the chemistry briefly."},
	{'h', 'M', "Why did the Roman Empire fall? Give me the main reasons."},
	{'t', 'M',
		"Write an SQL query that lists the ten customers with the highest total order "
		"value in "
		"2024. Tables: customers(id, name), orders(id, customer_id, total, created_at)."},
	{'h', 'M',
		"How do I write a regular expression that matches an email address? Show me an "
		"example in "
		"JavaScript."},
	{'t', 'M',
		"Convert this for loop to a list comprehension:\n\nresult = []\nfor x in items:\n  "
		"  if x > 3:\n        result.append(x * 2)\n"},
	{'h', 'M',
		"Add type hints and a docstring to this function:\n\ndef area(w, h):\n    return w "
		"* h\n"},
	{'t', 'M', "Write a short story about a lighthouse keeper who finds a letter in a bottle."},
	{'h', 'M', "Write a cover letter for a junior accountant position at a mid-sized company."},
	{'t', 'M', "How does photosynthesis work and why is it important for life on earth?"},
	{'h', 'M',
		"How do vaccines train the immune system, and why do some of them need a booster?"},
	{'t', 'M',
		"Extract the name, the date and the amount from this invoice as JSON: \"Invoice of "
		"3 May "
		"2024, Miller & Sons, total due 1,284.50 EUR, payable within 14 days.\""},
	{'h', 'M',
		"Turn this into a markdown table with the columns product, price and stock: apples "
		"cost 2.10 "
		"and we have 40, pears cost 2.80 and we have 12, plums cost 3.20 and there are "
		"none left."},
	{'t', 'M', "Solve for x: 3x + 7 = 2(x - 4). Show your steps."},
	{'h', 'M',
		"A train leaves at 9:40 and travels 210 km at 84 km/h. When does it arrive? Show "
		"how you "
		"get there."},
	{'t', 'M',
		"Erkl\xc3\xa4re mir den Unterschied zwischen Kreditkarte und Debitkarte und wann "
		"welche besser ist."},
	{'h', 'M',
		"Schreibe eine h\xc3\xb6"
		"fliche Absage auf eine Einladung zur Hochzeit, weil wir im Urlaub sind. "
		"Etwa zehn S\xc3\xa4tze."},
	{'t', 'M',
		"Fasse den folgenden Absatz in zwei S\xc3\xa4tzen zusammen: Die Gemeinde hat "
		"beschlossen, das alte "
		"Schwimmbad zu sanieren statt neu zu bauen. Ausschlaggebend waren die Kosten und "
		"die "
		"k\xc3\xbcrzere Bauzeit. Der Verein hatte sich einen Neubau mit l\xc3\xa4ngeren "
		"Bahnen gew\xc3\xbcnscht, "
		"erh\xc3\xa4lt nun aber neue Umkleiden und eine bessere Heizung. Die Arbeiten "
		"beginnen im M\xc3\xa4rz."},
	{'h', 'M',
		"Explique la diff\xc3\xa9rence entre un virus et une bact\xc3\xa9rie, avec des "
		"exemples."},
	{'t', 'M',
		"\xc3\x89"
		"cris un courriel \xc3\xa0 mon professeur pour demander un d\xc3\xa9lai de trois "
		"jours pour mon devoir."},
	{'h', 'M',
		"Explica c\xc3\xb3mo funciona una bomba de calor y por qu\xc3\xa9 gasta menos "
		"energ\xc3\xad"
		"a que un radiador."},
	{'t', 'M', "Escribe una funci\xc3\xb3n en JavaScript que invierta una cadena de texto."},
	{'h', 'M',
		"Give me feedback on this opening line and suggest two alternatives: 'The morning "
		"the river turned red, nobody in the village was awake to see it.'"},
	{'t', 'M', "Compare Python and Go for writing command line tools."},
	{'h', 'M',
		"Describe the water cycle for a geography lesson, with the main terms explained."},

	/* ---- complex ---- */
	{'t', 'C', "Prove that there are infinitely many prime numbers of the form 4k + 3."},
	{'h', 'C',
		"Prove by induction that the sum of the first n odd numbers is n^2, and then "
		"generalise the argument to sums of cubes."},
	{'t', 'C',
		"Design the architecture of a payment system that handles 10,000 transactions per "
		"second. "
		"It must be idempotent, survive the loss of a data centre and keep an audit log. "
		"Discuss the "
		"trade-offs between consistency and availability and justify your choice of "
		"database."},
	{'h', 'C',
		"Design a rate limiter for a distributed API gateway with 50 nodes. Limits must be "
		"exact within "
		"1 %, no central node may become a bottleneck, and clock skew has to be tolerated. "
		"Compare at "
		"least three algorithms and analyse their failure modes."},
	{'t', 'C',
		"This C++ program crashes now and then under load, but only with more than one "
		"thread. Find the "
		"bug, explain why it happens and fix it:\n\n```cpp\n#include <map>\n#include "
		"<thread>\n#include "
		"<string>\n\nclass Cache {\n    std::map<std::string, int> data;\npublic:\n    int "
		"get(const "
		"std::string &key) {\n        auto it = data.find(key);\n        if (it == "
		"data.end()) {\n       "
		"     data[key] = compute(key);\n            return data[key];\n        }\n        "
		"return "
		"it->second;\n    }\n    int compute(const std::string &key) { return "
		"(int)key.size() * 31; "
		"}\n};\n\nint main() {\n    Cache c;\n    std::thread a([&] { for (int i = 0; i < "
		"1000; i++) "
		"c.get(std::to_string(i)); });\n    std::thread b([&] { for (int i = 0; i < 1000; "
		"i++) "
		"c.get(std::to_string(i)); });\n    a.join();\n    b.join();\n}\n```\n"},
	{'h', 'C',
		"My tests fail with the trace below and I do not understand why. Work out the root "
		"cause step by "
		"step and propose a fix that does not change the public interface.\n\nTraceback "
		"(most recent call "
		"last):\n  File \"app/worker.py\", line 88, in run\n    result = "
		"self.queue.get(timeout=1)\n  "
		"File \"app/queue.py\", line 41, in get\n    item = self.items.pop(0)\nIndexError: "
		"pop from empty "
		"list\n\nclass Queue:\n    def __init__(self):\n        self.items = []\n        "
		"self.lock = "
		"threading.Lock()\n        self.ready = threading.Condition()\n\n    def put(self, "
		"x):\n        "
		"with self.lock:\n            self.items.append(x)\n        with self.ready:\n     "
		"       "
		"self.ready.notify_all()\n\n    def get(self, timeout):\n        with "
		"self.ready:\n            if "
		"not self.items:\n                self.ready.wait(timeout)\n            return "
		"self.items.pop(0)\n"},
	{'t', 'C',
		"Implement a lock-free multi-producer single-consumer queue in Rust. It must not "
		"allocate in the "
		"push path, must be wait-free for the consumer, and you should argue why each "
		"memory ordering is "
		"sufficient. Include tests and analyse the complexity."},
	{'h', 'C',
		"Write a parser and an interpreter in Go for a small expression language with "
		"variables, "
		"functions, closures and error messages with line numbers. Then explain how you "
		"would add a type "
		"checker, and analyse the time complexity of each phase."},
	{'t', 'C',
		"Derive the closed form of the Black-Scholes price of a European call option, "
		"stating every "
		"assumption, and then discuss how the result changes when the volatility is "
		"stochastic."},
	{'h', 'C',
		"Derive the gradient of the softmax cross-entropy loss with respect to the logits, "
		"show each step, "
		"and explain why the naive computation is numerically unstable and how to fix it."},
	{'t', 'C',
		"A farmer has to cross a river with a wolf, a goat, a cabbage and a dog. The boat "
		"takes two of them "
		"at a time. The wolf must not be alone with the goat, the goat must not be alone "
		"with the cabbage, "
		"and the dog must not be alone with the wolf. Find the shortest plan and prove "
		"that no shorter one "
		"exists."},
	{'h', 'C',
		"Five people live in five houses of different colours in a row. The Brit lives in "
		"the red house. The "
		"Swede keeps dogs. The Dane drinks tea. The green house is left of the white house "
		"and its owner "
		"drinks coffee. The person who smokes pipes keeps birds. Determine who keeps the "
		"fish and explain "
		"each deduction; if the conditions are not sufficient, show two different "
		"solutions."},
	{'t', 'C',
		"Evaluate the integral of x^2 * exp(-x^2) from 0 to infinity, first by parts and "
		"then with the Gamma "
		"function, and verify that both results agree."},
	{'h', 'C',
		"Let $f(x) = \\sum_{n=1}^{\\infty} \\frac{\\sin(nx)}{n^2}$. Show that $f$ is "
		"continuous, determine "
		"where it is differentiable, and prove your claim rigorously."},
	{'t', 'C',
		"We have a monolith of 400,000 lines of Java with a single Oracle database. "
		"Develop a migration plan "
		"towards services over 18 months: which parts first and why, how to split the "
		"data, how to avoid "
		"downtime, what could go wrong at each step and how we would notice. The team has "
		"eight people and "
		"must keep delivering features meanwhile."},
	{'h', 'C',
		"Analyse the business case of opening a second bakery. Rent is 4,200 a month, "
		"staff costs 11,500, "
		"ingredients are 32 % of sales, the average customer spends 6.40 and we expect 140 "
		"to 210 customers "
		"a day. Calculate the break-even point, run a sensitivity analysis over the three "
		"most uncertain "
		"assumptions, compare it with expanding the existing shop, and recommend a "
		"decision with its risks."},
	{'t', 'C',
		"Critically compare Kant's and Mill's view of lying. Reconstruct each argument "
		"with its premises, "
		"evaluate which premise is the weakest, and develop a position of your own against "
		"the strongest "
		"objection."},
	{'h', 'C',
		"Analyze to what extent the Treaty of Versailles caused the rise of National "
		"Socialism. Weigh at "
		"least three competing explanations against the evidence, evaluate the "
		"counterarguments, and "
		"justify your conclusion."},
	{'t', 'C',
		"Optimise this query. It takes 40 seconds on 80 million rows; explain the plan you "
		"expect, which "
		"indexes you would add and why, and what it costs on writes.\n\nSELECT c.region, "
		"date_trunc('month', "
		"o.created_at) AS m, SUM(oi.qty * oi.price)\nFROM orders o\nJOIN order_items oi ON "
		"oi.order_id = "
		"o.id\nJOIN customers c ON c.id = o.customer_id\nLEFT JOIN refunds r ON r.order_id "
		"= o.id\nWHERE "
		"o.created_at >= '2023-01-01' AND r.id IS NULL\nGROUP BY c.region, m\nHAVING "
		"SUM(oi.qty * oi.price) > "
		"1000\nORDER BY m, c.region;\n"},
	{'h', 'C',
		"Refactor the code below so that it can be tested without a network, keep its "
		"behaviour, handle all "
		"errors, and explain each design decision:\n\n```python\nimport requests\n\ndef "
		"sync(users):\n    for "
		"u in users:\n        r = requests.get('https://api.example.org/u/' + "
		"str(u['id']))\n        if "
		"r.status_code == 200:\n            d = r.json()\n            u['name'] = "
		"d['name']\n            "
		"u['mail'] = d.get('mail')\n            if d['manager']:\n                m = "
		"requests.get('https://api.example.org/u/' + str(d['manager']))\n                "
		"u['manager'] = "
		"m.json()['name']\n        else:\n            print('error', u['id'])\n    return "
		"users\n```\n"},
	{'t', 'C',
		"Given n jobs with deadlines and profits and m identical machines, develop an "
		"algorithm that "
		"maximises the profit. Prove its correctness, derive its running time, and show by "
		"a counterexample "
		"why the obvious greedy approach fails when jobs have different lengths."},
	{'h', 'C',
		"Design an algorithm that finds the k closest pairs among n points in the plane in "
		"better than "
		"quadratic time. Prove that it is correct, derive the complexity, and discuss what "
		"changes in d "
		"dimensions."},
	{'t', 'C',
		"Create a 12 week training plan for a first marathon under these conditions: I can "
		"run four times a "
		"week, never on Mondays, at most 90 minutes on working days, I had a knee injury "
		"last year, and the "
		"race has 600 m of climb. Explain how each week builds on the one before, how to "
		"adapt it after an "
		"illness, and at which signs I must stop."},
	{'h', 'C',
		"Schedule the following talks into three rooms between 9:00 and 17:00. "
		"Constraints: A and B must not "
		"overlap; C needs the large room; D must come before E and F; nobody speaks twice "
		"within one hour; "
		"every room needs a break of at least 30 minutes around noon; G takes 90 minutes "
		"and all others 45. "
		"If there is no such schedule, prove it and find the smallest change that makes it "
		"possible."},
	{'t', 'C',
		"Entwirf eine Architektur f\xc3\xbcr ein verteiltes Messsystem mit 20.000 "
		"Sensoren. Es muss Ausf\xc3\xa4lle "
		"einzelner Knoten \xc3\xbc"
		"berstehen, h\xc3\xb6"
		"chstens eine Sekunde Verz\xc3\xb6gerung haben und ohne Cloud "
		"auskommen. W\xc3\xa4ge mindestens zwei Ans\xc3\xa4tze gegeneinander ab und "
		"begr\xc3\xbcnde deine Entscheidung "
		"Schritt f\xc3\xbcr Schritt."},
	{'h', 'C',
		"Beweise, dass die Wurzel aus 2 irrational ist, und verallgemeinere den Beweis auf "
		"alle nat\xc3\xbcrlichen "
		"Zahlen, die keine Quadratzahlen sind."},
	{'t', 'C',
		"D\xc3\xa9montrez que toute suite r\xc3\xa9"
		"elle born\xc3\xa9"
		"e admet une sous-suite convergente, puis "
		"analysez si le r\xc3\xa9sultat reste vrai dans un espace de dimension infinie. "
		"Justifiez chaque "
		"\xc3\xa9tape."},
	{'h', 'C',
		"Con\xc3\xa7ois une strat\xc3\xa9gie de sauvegarde pour une PME de 40 personnes : "
		"elle doit r\xc3\xa9sister \xc3\xa0 un "
		"ran\xc3\xa7ongiciel, co\xc3\xbbter moins de 300 euros par mois et permettre une "
		"reprise en moins de quatre "
		"heures. Compare au moins trois solutions, analyse leurs risques et justifie ton "
		"choix \xc3\xa9tape par "
		"\xc3\xa9tape."},
	{'t', 'C',
		"Dise\xc3\xb1"
		"a un experimento para averiguar si un nuevo m\xc3\xa9todo de lectura mejora la "
		"comprensi\xc3\xb3n. "
		"Justifica el tama\xc3\xb1o de la muestra, analiza las posibles variables de "
		"confusi\xc3\xb3n, compara dos "
		"m\xc3\xa9todos estad\xc3\xadsticos y eval\xc3\xba"
		"a las limitaciones de cada uno."},
	{'h', 'C',
		"Demuestra que el producto de tres n\xc3\xbameros enteros consecutivos es "
		"divisible por 6 y generaliza el "
		"resultado a k n\xc3\xbameros consecutivos, justificando cada paso."},
	{'t', 'C',
		"You are given a biased coin with unknown probability p. Derive an unbiased "
		"procedure to simulate a "
		"fair coin, calculate the expected number of tosses as a function of p, and prove "
		"that your "
		"procedure terminates with probability 1."},
	{'h', 'C',
		"Three unfair dice are thrown. The probability of a six is p for the first, p/2 "
		"for the second and "
		"p/3 for the third. Calculate the distribution of the number of sixes, derive the "
		"value of p that "
		"makes the expected number equal to 1, and prove that the variance is then below "
		"1."},
	{'t', 'C',
		"Review the following contract clause. Identify every ambiguity, evaluate the risk "
		"for the buyer and "
		"for the seller separately, and propose a redraft that balances both: \"The Seller "
		"shall deliver the "
		"goods within a reasonable time unless prevented by circumstances beyond its "
		"control, in which case "
		"the Buyer may, at its discretion and without prejudice to other remedies, extend "
		"the period or, "
		"provided that notice has been given, withdraw from the affected part of the "
		"contract.\""},
	{'h', 'C',
		"Assess the following trial design and its statistics. 48 patients were assigned "
		"by birth month, the "
		"assessors knew the group, 11 dropped out of the treatment arm and were excluded, "
		"and of 14 end "
		"points two were significant with p < 0.05. Identify each methodological flaw, "
		"evaluate in which "
		"direction it biases the result, and redesign the study so that the flaws are "
		"avoided."},
	{'t', 'C',
		"Develop a regression model for house prices from scratch in numpy: derive the "
		"normal equations, "
		"implement ridge regularisation, evaluate it with nested cross-validation, and "
		"analyse why "
		"multicollinearity makes the coefficients unstable."},
	{'h', 'C',
		"Simulate the spread of an infection on a network in Python. Implement the SIR "
		"model on a scale-free "
		"graph, derive the epidemic threshold analytically, compare it with the simulation "
		"for at least four "
		"parameter sets, and discuss why they differ."},
};

#endif
