/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of words by what they say of a prompt, and a table to find them in. A list is a string, as
 * a person edits it; "explain*" is every word that begins so. The table is made once, at the first
 * look-up, and never changes: chains by a word's first four bytes, so that most words of a text
 * meet an empty chain and are done. A word of several languages stands in the list of each that has
 * it and becomes one entry.
 */
#include "gateway/classify_words.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

struct list {
	enum classify_kind kind;
	uint8_t languages;
	const char *words;
};

enum { EN = CLASSIFY_EN, DE = CLASSIFY_DE, FR = CLASSIFY_FR, ES = CLASSIFY_ES };

static const struct list lists[] = {
	{CLASSIFY_COMMON, EN,
		"the of and a an to in is are was were be been it its this that these those for on "
		"with "
		"as at by from or but not you your i my me we our he she his her they their do "
		"does did "
		"has have had can could will would there here about into than then so if out up "
		"one all "
		"after before over please no more most other some such only"},
	{CLASSIFY_COMMON, DE,
		"der die das den dem des ein eine einen einem einer eines und oder aber nicht kein "
		"keine "
		"ist sind war waren sein hat haben ich du er sie es wir ihr mir mich dir dich mein "
		"meine "
		"dein deine zu zum zur im in am an auf aus bei mit nach von vom fur uber unter um "
		"als wie "
		"auch noch nur sich so bitte wenn dass diese dieser dieses heute"},
	{CLASSIFY_COMMON, FR,
		"le la les l un une des du de d et ou mais ne pas est sont etait c ce cet cette "
		"ces il "
		"elle on nous vous je j tu mon ma mes ton ta son sa ses leur qui que qu dans sur "
		"sous par "
		"avec pour au aux en plus y a si tout toute s n m"},
	{CLASSIFY_COMMON, ES,
		"el la los las un una unos unas de del y o pero no es son era ser se que en con "
		"por para "
		"al lo su sus mi mis tu tus yo me te le les este esta esto estos como mas muy si "
		"ya hay "
		"tiene ha han"},

	{CLASSIFY_REASONING, EN,
		"deduce* deduct* justif* evaluat* "
		"analy* "
		"critical* critique* optimi* architect* design designing redesign* algorithm* "
		"tradeoff* "
		"hypothes* counterargument* "
		"infer inference* implication* strateg* assess* diagnos* debug* "
		"bottleneck* "
		"refactor* complexity asymptotic* generalise* generalize* simulat* synthesi* "
		"reconcile* "
		"feasib* sensitivity scalab* invariant* assumption* determine* verify* verifies "
		"reconstruct* objection* consequence* migrat* develop implement* schedule* "
		"methodolog* "
		"identify deadlock* correctness premise* trace cause* root argue argument* weigh "
		"propose* "
		"conclu* distribut* robust* prioriti* forecast* model investigat* calculate* "
		"interpret*"},
	{CLASSIFY_REASONING, DE,
		"begrund* folger* analys* bewert* beurteil* optimier* "
		"architektur* "
		"entwirf entwerf* entwurf* algorithm* widerspruch* widerleg* hypothes* strateg* "
		"komplex* "
		"verallgemein* simulier* implementier* entwick* abwag* wage schritt* ursach* "
		"konsequenz* "
		"annahme* untersuch* kritisch* nachweis* uberpruf* bestimm* berechn* verteilt* "
		"diskut* "
		"erorter* planung* losungsweg* argument*"},
	{CLASSIFY_REASONING, FR,
		"deduire deduis* justifi* evalu* analys* critique* "
		"optimis* "
		"architectur* concoi* concev* conception* algorithm* hypothes* strateg* "
		"complexit* "
		"generalis* simul* implement* developp* determin* verifi* argument* consequen* "
		""
		"etape* raisonn* calcul* distribu* diagnosti* propos* "
		"risque* cause*"},
	{CLASSIFY_REASONING, ES,
		"deduc* justific* evalua* analiz* analis* "
		"critic* optimi* "
		"arquitect* disen* algoritm* hipotes* estrateg* complej* generaliz* simul* "
		"implement* desarroll* determin* verific* argument* consecuen* "
		"induccion "
		"paso razon* calcul* distribu* diagnostic* propon* riesgo* causa* experiment* "
		"limitacion*"},

	{CLASSIFY_PROOF, EN,
		"prove proves proof proofs derive* derivation* theorem* lemma* induction "
		"counterexample* "
		"rigorous*"},
	{CLASSIFY_PROOF, DE, "beweis* herleit* leite ableit* lemma* gegenbeispiel* widerspruch*"},
	{CLASSIFY_PROOF, FR, "demontr* prouv* preuve* theorem* lemme* recurrence contradiction*"},
	{CLASSIFY_PROOF, ES,
		"demuestr* demostr* prueba* deriv* teorem* lema lemas induccion contradicc* "
		"contraejempl*"},

	{CLASSIFY_TASK, EN,
		"write writing explain* describe* summar* compare* comparison* difference* differ "
		"discuss* "
		"generate create draft outline* suggest* recommend* plan why how story essay email "
		"letter "
		"report advantage* disadvantage* pros cons example* convert extract* rewrite* "
		"improve* "
		"feedback review itinerary work works function script query reasons steps lesson "
		"turn add "
		"show poem paragraph blog article speech presentation recipe menu main brainstorm* "
		"solve "
		"prepare elaborate* illustrate*"},
	{CLASSIFY_TASK, DE,
		"schreib* erklar* beschreib* fasse zusammen* vergleich* unterschied* erstell* "
		"verfass* "
		"schlag* empfehl* plan* warum wieso weshalb geschichte aufbrief bericht "
		"vorteil* "
		"nachteil* beispiel* formulier* verbesser* gedicht funktion* absage erlauter* "
		"welche"},
	{CLASSIFY_TASK, FR,
		"ecri* redig* expliqu* decri* resum* compar* differen* suggere* recommand* "
		"planifi* "
		"pourquoi comment histoire essai courriel lettre rapport avantage* inconvenient* "
		"exemple* "
		"reformul* amelior* poeme fonction* cree creer prepar* discut*"},
	{CLASSIFY_TASK, ES,
		"escrib* redact* explic* describ* resum* compar* diferenci* sugier* recomiend* "
		"planific* "
		"funciona por cuento historia ensayo correo carta informe ventaja* desventaja* "
		"ejemplo* "
		"reformul* mejor* poema funcion crea crear prepara* discut*"},

	{CLASSIFY_CONSTRAINT, EN,
		"must mustn shall exactly least without never unless except within maximum minimum "
		"limit* "
		"constraint* condition* require* avoid* ensure* cannot each every both neither "
		"separately "
		"fewer less never always should strictly include including keep only given between "
		"while "
		"tolerat* handle* under survive*"},
	{CLASSIFY_CONSTRAINT, DE,
		"muss mussen soll sollen darf durfen genau mindestens hochstens ohne niemals "
		"ausser "
		"innerhalb maximal minimal begrenz* bedingung* anforder* vermeid* jede jeder jedes "
		"jeden "
		"jeweils beide weder immer etwa alle zwischen"},
	{CLASSIFY_CONSTRAINT, FR,
		"doit doivent dois faut exactement moins sans jamais sauf maximum minimum limit* "
		"contrainte* condition* exig* evit* assur* chaque chacun* toujours entre tous "
		"toutes "
		"permett* respect*"},
	{CLASSIFY_CONSTRAINT, ES,
		"debe deben debes exactamente menos sin nunca salvo excepto maximo minimo limit* "
		"restricc* condicion* requi* evit* asegur* cada ambos siempre entre todos todas"},

	{CLASSIFY_CODE, EN | DE | FR | ES,
		"python javascript typescript java rust golang bash sql html css regex regexp api "
		"apis json "
		"yaml docker kubernetes git linux class compile* program* script* code bug bugs "
		"exception* "
		"stack thread* array* loop loops variable* database* query queries numpy pandas "
		"react def "
		"int void return import include struct const null async await printf stdout select "
		"join "
		"traceback segfault mutex server backend frontend parser interpreter compiler* "
		"queue* lock "
		"cache pointer* recursion recursive* unittest* monolith* microservice*"},

	{CLASSIFY_MATHEMATICS, EN,
		"equation* integral* derivative* matrix matrices eigen* probabilit* "
		"polynomial* "
		"algebra* calculus geometr* trigonom* logarithm* prime primes fraction* vector* "
		"topolog* "
		"converg* modulo variance expectation expected statistic* regression* "
		"differential* "
		"divisible irrational infinity infinite* finite coefficient* gradient* integer* "
		"stochastic "
		"continuous dimension* deviation permutation* combinator* solve sum product "
		"formula*"},
	{CLASSIFY_MATHEMATICS, DE,
		"gleichung* integral* ableitung* matrix matrizen wahrscheinlich* polynom* "
		"algebra* "
		"geometri* logarithm* primzahl* bruch vektor* topolog* konverg* varianz "
		"erwartungswert* "
		"statisti* regression* differential* teilbar irrational unendlich* wurzel "
		"quadratzahl* "
		"summe produkt formel* stetig* dimension* zahlen"},
	{CLASSIFY_MATHEMATICS, FR,
		"equation* integrale* derivee* matrice* probabilit* polynom* algebr* geometr* "
		"logarithm* "
		"premier premiers fraction* vecteur* topolog* converg* variance esperance "
		"statisti* "
		"regression* differentiel* divisible irrationnel* infini* racine suite suites "
		"somme "
		"produit formule* continu* dimension* entier entiers"},
	{CLASSIFY_MATHEMATICS, ES,
		"ecuacion* integral* derivada* matriz matrices probabilid* polinomi* algebra* "
		"geometr* "
		"logaritm* primo primos fraccion* vector* topolog* converg* varianza esperanza "
		"estadistic* "
		"regresion* diferencial* divisible irracional* infinit* raiz suma producto "
		"formula* "
		"continu* dimension* entero enteros"},

	{CLASSIFY_EASY, EN,
		"what who whom whose when where which hello hi hey thanks thank ok okay yes "
		"morning night "
		"evening bye translate define definition meaning means synonym* antonym* spell "
		"spelling "
		"grammar capital classify sentiment positive negative joke haiku rhyme name tell "
		"list many "
		"much old tall far long stand stands symbol remind say is"},
	{CLASSIFY_EASY, DE,
		"was wer wem wen wann wo wohin woher hallo hi danke ja nein guten morgen abend "
		"nacht tschuss "
		"ubersetz* definier* bedeut* synonym* hauptstadt witz nenne viele viel alt hoch "
		"weit lang "
		"spat heisst sag"},
	{CLASSIFY_EASY, FR,
		"qui quand ou quel quelle quels quelles combien bonjour salut merci oui non "
		"bonsoir "
		"traduis traduire traduisez defini* signifi* synonym* capitale blague nomme cite "
		"dis "
		"veut dire"},
	{CLASSIFY_EASY, ES,
		"que quien quienes cuando donde cual cuales cuanto cuanta cuantos cuantas hola "
		"gracias si "
		"buenos buenas dias noches traduce traducir define significa* sinonim* capital "
		"chiste "
		"nombra dime"},
};

enum { MAX_WORDS = 2048, N_CHAINS = 4096, NO_WORD = UINT16_MAX };

static struct classify_word words[MAX_WORDS];
static uint16_t chains[N_CHAINS];
static size_t n_words;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static uint16_t *chain(uint32_t key)
{
	return &chains[(key * UINT32_C(2654435761)) >> 20];
}

static uint32_t key_of(const char *word, size_t len)
{
	uint32_t key = 0;
	for (size_t i = 0; i < 4 && i < len; i++)
		key |= (uint32_t)(unsigned char)word[i] << (8 * i);
	return key;
}

/* The same word in another list of its kind is one of two languages. A common word that has a
 * meaning as well keeps the meaning. */
static void add_word(const struct list *list, const char *text, size_t len)
{
	bool is_stem = text[len - 1] == '*';
	len -= is_stem;
	assert(len && len < 32 && (!is_stem || len >= 4) && n_words < MAX_WORDS);
	uint16_t *first = chain(key_of(text, len));
	for (uint16_t i = *first; i != NO_WORD; i = words[i].next) {
		struct classify_word *w = &words[i];
		if (w->len != len || w->is_stem != is_stem || memcmp(w->text, text, len) != 0)
			continue;
		w->languages |= list->languages;
		w->kind = w->kind == CLASSIFY_COMMON ? (uint8_t)list->kind : w->kind;
		return;
	}
	words[n_words] = (struct classify_word){
		.text = text,
		.len = (uint8_t)len,
		.is_stem = is_stem,
		.kind = (uint8_t)list->kind,
		.languages = list->languages,
		.next = *first,
	};
	*first = (uint16_t)n_words++;
}

static void make_table(void)
{
	for (size_t i = 0; i < N_CHAINS; i++)
		chains[i] = NO_WORD;
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
		for (const char *p = lists[i].words; *p;) {
			size_t len = strcspn(p, " ");
			add_word(&lists[i], p, len);
			p += len + strspn(p + len, " ");
		}
}

/* A whole word is meant before a stem that it begins with. */
const struct classify_word *classify_words_find(const char *word, size_t len, uint32_t key)
{
	const struct classify_word *stem = NULL;
	pthread_once(&once, make_table);
	for (uint16_t i = *chain(key); i != NO_WORD; i = words[i].next) {
		const struct classify_word *w = &words[i];
		if (w->len > len || (w->len < len && !w->is_stem) ||
			memcmp(w->text, word, w->len) != 0)
			continue;
		if (w->len == len)
			return w;
		stem = !stem || w->len > stem->len ? w : stem;
	}
	return stem;
}
