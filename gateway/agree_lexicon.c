/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words that agree knows: rows by language, each of one kind. In rows of groups, ";" stands
 * between groups of the same meaning, "|" between opposites, "-" before a past. Groups are for
 * words that may stand for each other nearly everywhere; when in doubt, a word is in none: then it
 * agrees with itself only. Words stand here as agree_word_stem() leaves them, or as they are
 * written.
 *
 * A word means what its first row says. A row of opposites may say of a word of a group on which
 * side it is; then all of the group is on that side.
 */
#include "gateway/agree_parts.h"

#define EN LANGUAGE_EN
#define DE LANGUAGE_DE
#define FR LANGUAGE_FR
#define ES LANGUAGE_ES
#define IT LANGUAGE_IT
#define ANY LANGUAGE_NONE

const struct agree_row agree_lexicon[] = {
	/* ---- English ---- */
	{EN, WORD_STOP, 0,
		"a an the this that these those there here it its itself oneself which whose "
		"some any please kindly just exactly actually really currently current so also "
		"following thanks thank hello hi hey ok okay hmm one ones be been being let "
		"lets together themselves myself yourself else whether"},
	{EN, WORD_ASK, ASK_NAME, "tell give name list show say find calculate compute get"},
	{EN, WORD_ASK, ASK_EXPLAIN, "explain describe clarify"},
	{EN, WORD_ROLE, ROLE_FROM, "from"},
	{EN, WORD_ROLE, ROLE_TO, "to into onto towards toward"},
	{EN, WORD_ROLE, ROLE_BY, "by"},
	{EN, WORD_ROLE, ROLE_THAN, "than"},
	{EN, WORD_ROLE, ROLE_FOR, "for"},
	{EN, WORD_ROLE, ROLE_OF, "of"},
	{EN, WORD_ROLE, ROLE_IN, "in on at within"},
	{EN, WORD_ROLE, ROLE_WITH, "with using via through"},
	{EN, WORD_ROLE, ROLE_AS, "as"},
	{EN, WORD_ROLE, ROLE_ABOUT, "about"},
	{EN, WORD_ROLE, ROLE_IF, "if while"},
	{EN, WORD_QUESTION, QUESTION_WHAT, "what which whats"},
	{EN, WORD_QUESTION, QUESTION_WHO, "who whom whos"},
	{EN, WORD_QUESTION, QUESTION_WHEN, "when"},
	{EN, WORD_QUESTION, QUESTION_WHERE, "where"},
	{EN, WORD_QUESTION, QUESTION_WHY, "why"},
	{EN, WORD_QUESTION, QUESTION_HOW, "how"},
	{EN, WORD_AUX, AUX_PRESENT, "is are am do does has have"},
	{EN, WORD_AUX, AUX_PAST, "was were did had"},
	{EN, WORD_AUX, AUX_FUTURE, "will shall wo would"},
	{EN, WORD_AUX, AUX_CAN, "can could may might allowed able"},
	{EN, WORD_AUX, AUX_SHOULD, "should ought"},
	{EN, WORD_AUX, AUX_MUST, "must"},
	{EN, WORD_PERSON, PERSON_I, "i we me us"},
	{EN, WORD_PERSON, PERSON_YOU, "you"},
	{EN, WORD_PERSON, PERSON_MY, "my mine our ours"},
	{EN, WORD_PERSON, PERSON_YOUR, "your yours"},
	{EN, WORD_PERSON, PERSON_HE, "he him his himself"},
	{EN, WORD_PERSON, PERSON_SHE, "she her hers herself"},
	{EN, WORD_PERSON, PERSON_THEY, "they them their theirs"},
	{EN, WORD_JOIN, JOIN_AND, "and"},
	{EN, WORD_JOIN, JOIN_OR, "or"},
	{EN, WORD_NOT, 0,
		"not never cannot nor neither; no none nobody nothing nowhere; without; except; "
		"hardly; unless; instead; lack"},
	{EN, WORD_NUMBER, 0, "zero"},
	{EN, WORD_NUMBER, 2, "two"},
	{EN, WORD_NUMBER, 3, "three"},
	{EN, WORD_NUMBER, 4, "four"},
	{EN, WORD_NUMBER, 5, "five"},
	{EN, WORD_NUMBER, 6, "six"},
	{EN, WORD_NUMBER, 7, "seven"},
	{EN, WORD_NUMBER, 8, "eight"},
	{EN, WORD_NUMBER, 9, "nine"},
	{EN, WORD_NUMBER, 10, "ten"},
	{EN, WORD_NUMBER, 11, "eleven"},
	{EN, WORD_NUMBER, 12, "twelve dozen"},
	{EN, WORD_NUMBER, 13, "thirteen"},
	{EN, WORD_NUMBER, 14, "fourteen"},
	{EN, WORD_NUMBER, 15, "fifteen"},
	{EN, WORD_NUMBER, 16, "sixteen"},
	{EN, WORD_NUMBER, 17, "seventeen"},
	{EN, WORD_NUMBER, 18, "eighteen"},
	{EN, WORD_NUMBER, 19, "nineteen"},
	{EN, WORD_NUMBER, 20, "twenty"},
	{EN, WORD_NUMBER, 30, "thirty"},
	{EN, WORD_NUMBER, 40, "forty"},
	{EN, WORD_NUMBER, 50, "fifty"},
	{EN, WORD_NUMBER, 60, "sixty"},
	{EN, WORD_NUMBER, 70, "seventy"},
	{EN, WORD_NUMBER, 80, "eighty"},
	{EN, WORD_NUMBER, 90, "ninety"},
	{EN, WORD_SCALE, 2, "hundred"},
	{EN, WORD_SCALE, 3, "thousand"},
	{EN, WORD_SCALE, 6, "million"},
	{EN, WORD_SCALE, 9, "billion"},
	{EN, WORD_ORDINAL, 1, "first"},
	{EN, WORD_ORDINAL, 2, "second"},
	{EN, WORD_ORDINAL, 3, "third"},
	{EN, WORD_ORDINAL, 4, "fourth"},
	{EN, WORD_ORDINAL, 5, "fifth"},
	{EN, WORD_ORDINAL, 6, "sixth"},
	{EN, WORD_ORDINAL, 7, "seventh"},
	{EN, WORD_ORDINAL, 8, "eighth"},
	{EN, WORD_ORDINAL, 9, "ninth"},
	{EN, WORD_ORDINAL, 10, "tenth"},
	{EN, WORD_UNIT, 0,
		"percent percentage %; dollar dollars usd bucks $; euro euros eur €; cent cents; "
		"yen; "
		"seconds secs sec; minute minutes mins; hour hours hrs; day days; week weeks; "
		"month months; year years; decade decades; century centuries; kilometer "
		"kilometers kilometre kilometres kms km; meter meters metre metres; centimeter "
		"centimeters centimetre centimetres cm; millimeter millimeters millimetre "
		"millimetres mm; mile miles; foot feet; inch inches; yard yards; kilogram "
		"kilograms kilogramme kilogrammes kilos kilo kg kgs; gram grams gramme grammes; "
		"ounce ounces oz; pound pounds lb lbs; ton tons tonne tonnes; liter liters litre "
		"litres; milliliter milliliters millilitre millilitres ml; gallon gallons; pint "
		"pints; cup cups; tablespoon tablespoons tbsp; teaspoon teaspoons tsp; degree "
		"degrees; celsius centigrade; fahrenheit; kelvin; byte bytes; kilobyte kilobytes "
		"kb; megabyte megabytes mb; gigabyte gigabytes gb; terabyte terabytes tb; am; pm; "
		"january jan; february feb; march; april apr; june jun; july jul; august aug; "
		"september sept sep; october oct; november nov; december dec; monday mondays; "
		"tuesday tuesdays; wednesday wednesdays; thursday thursdays; friday fridays; "
		"saturday saturdays; sunday sundays; today; yesterday; tomorrow; tonight; "
		"annually yearly; monthly; weekly; daily; square; cubic; once; twice; half; "
		"double; triple; quarter quarters"},
	{EN, WORD_OPERATOR, '+', "plus"},
	{EN, WORD_OPERATOR, '-', "minus"},
	{EN, WORD_OPERATOR, '*', "times multiplied ×"},
	{EN, WORD_OPERATOR, '/', "divided ÷"},
	{EN, WORD_LANGUAGE, 0,
		"english; german; french; spanish; italian; portuguese; dutch; russian; chinese "
		"mandarin; japanese; korean; arabic; turkish; polish; swedish; danish; norwegian; "
		"finnish; greek; hebrew; hindi; latin; czech; hungarian; ukrainian; romanian; "
		"vietnamese; thai; indonesian; catalan; welsh; irish; icelandic; persian farsi; "
		"esperanto; swahili"},
	{EN, WORD_GROUP, 0,
		"big large; bigger larger; biggest largest; fast quick; faster quicker; fastest "
		"quickest; begin start -began -begun commence; finish complete; buy purchase "
		"-bought; fix repair; defeat beat; error mistake fault; picture image photo "
		"photograph; movie "
		"film; car automobile; job position; holiday vacation; shop store; child kid "
		"children; mother mum mom; father dad; present gift; answer reply; clever smart; "
		"woman women; man men; foot feet; person people; mouse mice; tooth teeth; leaf "
		"leaves; life lives; wife wives; knife knives; goose geese; bacterium bacteria; "
		"criterion criteria; datum data; index indices indexes; vertex vertices; matrix "
		"matrices; analysis analyses; crisis crises; axis axes; write -wrote -written; "
		"speak -spoke -spoken; build -built; make -made; take -took -taken; go -went "
		"-gone; give "
		"-gave -given; get -got -gotten; see -saw -seen; know -knew -known; think "
		"-thought; find "
		"-found; teach -taught; catch -caught; bring -brought; fight -fought; win -won "
		"winner; "
		"lose -lost; eat -ate -eaten; drink -drank -drunk; drive -drove -driven; sing "
		"-sang -sung; "
		"swim -swam -swum; run -ran; come -came; become -became; hold -held; keep -kept; "
		"sleep "
		"-slept; meet -met; lead -led; feed -fed; send -sent; spend -spent; lend -lent; "
		"sell "
		"-sold; tell -told; say -said; pay -paid; break -broke -broken; steal -stole "
		"-stolen; "
		"choose -chose -chosen; freeze -froze -frozen; bite -bit -bitten; hide -hid "
		"-hidden; fly "
		"-flew -flown; draw -drew -drawn; grow -grew -grown; throw -threw -thrown; wear "
		"-wore "
		"-worn; tear -tore -torn; show -shown; mean -meant; feel -felt; understand "
		"-understood; "
		"stand -stood; shoot -shot; do -done; use utilize utilise; need require; help "
		"assist; color colour; neighbor neighbour; center centre; fiber fibre; favorite "
		"favourite; license licence; gray grey; program programme; organize organise; "
		"summarize summarise; analyze analyse; optimize optimise; recognize recognise; "
		"behavior behaviour; flavor flavour; humor humour; theater theatre; advantage "
		"benefit pro; disadvantage drawback con; regex regexp; directory folder; docs "
		"documentation; repo repository; db database; config configuration; app "
		"application; param parameter; arg argument; func function; dict dictionary; int "
		"integer; bool boolean; str string; max maximum; min minimum; info information; "
		"approx approximately; vs versus; usa america; uk britain; tv television; phone "
		"telephone; bike bicycle; exam examination; lab laboratory; ad advertisement; "
		"price cost; tall high height; taller higher; tallest highest; old age; distance "
		"far; wide width; deep depth; heavy weigh weight; author write; painter paint; "
		"inventor invent invention; discoverer discover discovery; dog dogs; difference "
		"differ; decimal decimals; own owner; all every each; lawyer attorney; doctor "
		"physician; sofa couch; trash garbage rubbish; elevator lift; flat apartment; "
		"truck lorry; cookie biscuit; soccer football; sea ocean; forest woods; stone "
		"rock; road street; change modify alter; check test verify; create generate; "
		"suggest recommend; happen occur; receive obtain; allow permit; choose pick; "
		"connect link; argument args; delete erase; shut close; sick ill; rich wealthy; "
		"whole entire; enough sufficient; almost nearly; often frequently; maybe perhaps; "
		"travel journey trip; multiply times"},
	/* Not what they would be without their endings. */
	{EN, WORD_GROUP, 0,
		"news; physics; mathematics; economics; politics; series; species; goods; customs; "
		"arms; "
		"evening; morning; wedding; building; during; something; anything; everything; "
		"ceiling; "
		"glasses; being; united"},
	{EN, WORD_GROUP, 1,
		"increase raise | decrease reduce lower; rise -risen -rose | fall -fell -fallen "
		"drop; "
		"before | after; maximum max greatest | minimum min smallest; enable activate | "
		"disable deactivate; buy | sell; hot | cold; hotter warmer | colder cooler; warm "
		"| cool; more | less fewer; most | least fewest; add | remove delete; insert | "
		"extract; open | close closed shut; start begin | stop end; up | down; over above "
		"| under below; inside indoors indoor | outside outdoors outdoor; left | right; "
		"good better best | bad worse worst; new | old; true | false; win | lose; love "
		"like | hate dislike; accept | reject refuse; allow permit | forbid prohibit ban; "
		"push | pull; import | export; encode | decode; encrypt | decrypt; compress | "
		"decompress; upload | download; lock | unlock; install | uninstall; connect | "
		"disconnect; mount | unmount; upgrade | downgrade; ascending ascend | descending "
		"descend; advantage benefit pro | disadvantage drawback con; strength | weakness; "
		"profit gain | loss; early earlier earliest | late later latest; next | previous; "
		"same similar | different; similarity | difference; public | private; static | "
		"dynamic; local | global; online | offline; male man | female woman; boy | girl; "
		"father | mother; son | daughter; brother | sister; husband | wife; king | queen; "
		"morning | evening; summer | winter; spring | autumn; north northern | south "
		"southern; east eastern | west western; sunrise | sunset; safe | dangerous; easy "
		"simple | hard difficult; light | dark; black | white; full | empty; rich | poor; "
		"strong | weak; fast | slow; faster | slower; fastest | slowest; long | short; "
		"longer | shorter; longest | shortest; high | low; higher | lower; highest | "
		"lowest; wide | narrow; thick | thin; wet | dry; loud | quiet; clean | dirty; "
		"cheap | expensive; cheaper | costlier; alive living | dead; wake | sleep; show | "
		"hide; save | load; read | write; lend | borrow; arrive | depart; enter | exit "
		"leave; ask | answer; teach | learn; attack | defend; succeed | fail; include | "
		"exclude; internal | external; input | output; source | destination; parent | "
		"child; client | server; sender | receiver; optional | mandatory required; "
		"singular | plural; synonym | antonym; vegan | carnivore; positive | negative; "
		"even | odd; integral | derivative; sum | product; sync | async; foreground | "
		"background; expand | summarize; inner | outer; vertical | horizontal; minimize | "
		"maximize; shrink | grow; past | future; ancient | modern; common | rare; credit "
		"| debit; deposit | withdraw; employer | employee; landlord | tenant; seller | "
		"buyer; freeze | thaw; raw | cooked; legal | illegal; serialize | deserialize"},
	/* ---- German ---- */
	{DE, WORD_STOP, 0,
		"der die das des ein eine einer eines dies diese dieser "
		"dieses diesen diesem es sich bitte denn doch eben gerade genau da dort so auch "
		"ja ob dass daß man einmal danke hallo eigentlich genannt "
		"folgenden folgende folgendes etwas eigenen"},
	{DE, WORD_ASK, ASK_NAME, "sag sage nenn nenne gib gebe zeig zeige liste berechne finde"},
	{DE, WORD_ASK, ASK_EXPLAIN, "erklär erkläre erklaere beschreib beschreibe erläutere"},
	{DE, WORD_ROLE, ROLE_CASE, "den dem einen einem"},
	{DE, WORD_ROLE, ROLE_FROM, "von vom aus"},
	{DE, WORD_ROLE, ROLE_TO, "nach zu zum zur ins"},
	{DE, WORD_ROLE, ROLE_BY, "durch"},
	{DE, WORD_ROLE, ROLE_THAN, "als"},
	{DE, WORD_ROLE, ROLE_FOR, "für fürs"},
	{DE, WORD_ROLE, ROLE_IN, "in im am an auf beim bei um"},
	{DE, WORD_ROLE, ROLE_WITH, "mit mittels"},
	{DE, WORD_ROLE, ROLE_ABOUT, "über"},
	{DE, WORD_ROLE, ROLE_IF, "wenn falls"},
	{DE, WORD_QUESTION, QUESTION_WHAT, "was welche welcher welches welchen welchem"},
	{DE, WORD_QUESTION, QUESTION_WHO, "wer"},
	{DE, WORD_QUESTION, QUESTION_WHOM, "wen"},
	{DE, WORD_QUESTION, QUESTION_WHO | QUESTION_WHOM, "wem wessen"},
	{DE, WORD_QUESTION, QUESTION_WHEN, "wann"},
	{DE, WORD_QUESTION, QUESTION_WHERE, "wo wohin woher"},
	{DE, WORD_QUESTION, QUESTION_WHY, "warum wieso weshalb weswegen"},
	{DE, WORD_QUESTION, QUESTION_HOW, "wie"},
	{DE, WORD_QUESTION, QUESTION_COUNT, "wieviel wieviele"},
	{DE, WORD_AUX, AUX_PRESENT, "ist sind bin bist seid hat haben habe hast habt sein"},
	{DE, WORD_AUX, AUX_PAST, "war waren wurde wurden hatte hatten"},
	{DE, WORD_AUX, AUX_FUTURE, "wird werden werde wirst würde würden"},
	{DE, WORD_AUX, AUX_CAN, "kann können könnte könnten kannst darf dürfen darfst"},
	{DE, WORD_AUX, AUX_SHOULD, "soll sollen sollte sollten"},
	{DE, WORD_AUX, AUX_MUST, "muss müssen muß musst müsste"},
	{DE, WORD_PERSON, PERSON_I, "ich wir mir mich uns"},
	{DE, WORD_PERSON, PERSON_YOU, "du dich dir euch ihr"},
	{DE, WORD_PERSON, PERSON_MY, "mein meine meinen meinem meiner meines unser unsere"},
	{DE, WORD_PERSON, PERSON_YOUR, "dein deine deinen deinem deiner euer eure"},
	{DE, WORD_PERSON, PERSON_HE, "er ihn ihm"},
	{DE, WORD_PERSON, PERSON_SHE, "sie ihre ihren ihrem ihrer"},
	{DE, WORD_JOIN, JOIN_AND, "und sowie"},
	{DE, WORD_JOIN, JOIN_OR, "oder"},
	{DE, WORD_NOT, 0,
		"nicht nie niemals weder; kein keine keinen keinem keiner keines nichts niemand; "
		"ohne; außer; statt; kaum"},
	{DE, WORD_NUMBER, 0, "null"},
	{DE, WORD_NUMBER, 1, "eins"},
	{DE, WORD_NUMBER, 2, "zwei beide beiden"},
	{DE, WORD_NUMBER, 3, "drei"},
	{DE, WORD_NUMBER, 4, "vier"},
	{DE, WORD_NUMBER, 5, "fünf"},
	{DE, WORD_NUMBER, 6, "sechs"},
	{DE, WORD_NUMBER, 7, "sieben"},
	{DE, WORD_NUMBER, 8, "acht"},
	{DE, WORD_NUMBER, 9, "neun"},
	{DE, WORD_NUMBER, 10, "zehn"},
	{DE, WORD_NUMBER, 11, "elf"},
	{DE, WORD_NUMBER, 12, "zwölf dutzend"},
	{DE, WORD_NUMBER, 20, "zwanzig"},
	{DE, WORD_NUMBER, 30, "dreißig"},
	{DE, WORD_NUMBER, 40, "vierzig"},
	{DE, WORD_NUMBER, 50, "fünfzig"},
	{DE, WORD_NUMBER, 60, "sechzig"},
	{DE, WORD_NUMBER, 70, "siebzig"},
	{DE, WORD_NUMBER, 80, "achtzig"},
	{DE, WORD_NUMBER, 90, "neunzig"},
	{DE, WORD_SCALE, 2, "hundert"},
	{DE, WORD_SCALE, 3, "tausend"},
	{DE, WORD_SCALE, 6, "million millionen"},
	{DE, WORD_SCALE, 9, "milliarde milliarden"},
	{DE, WORD_ORDINAL, 1, "erste ersten erster erstes"},
	{DE, WORD_ORDINAL, 2, "zweite zweiten zweiter zweites"},
	{DE, WORD_ORDINAL, 3, "dritte dritten dritter drittes"},
	{DE, WORD_ORDINAL, 4, "vierte vierten vierter viertes"},
	{DE, WORD_UNIT, 0,
		"prozent %; dollar; euro; franken; sekunde sekunden; minute minuten; stunde "
		"stunden; tag tage tagen; woche wochen; monat monate monaten; jahr jahre jahren; "
		"kilometer km; meter; zentimeter cm; millimeter mm; meile meilen; kilogramm kilo "
		"kg; gramm; pfund; liter; grad; uhr; heute; gestern; morgen; januar; februar; "
		"märz; april; mai; juni; juli; august; september; oktober; november; dezember; "
		"montag montags; dienstag dienstags; mittwoch mittwochs; donnerstag donnerstags; "
		"freitag freitags; samstag samstags; sonntag sonntags"},
	{DE, WORD_OPERATOR, '+', "plus"},
	{DE, WORD_OPERATOR, '-', "minus"},
	{DE, WORD_OPERATOR, '*', "mal ×"},
	{DE, WORD_OPERATOR, '/', "geteilt"},
	{DE, WORD_LANGUAGE, 0,
		"englisch englische englischen; deutsch deutsche deutschen; französisch "
		"französische französischen; spanisch spanische spanischen; italienisch "
		"italienische italienischen; russisch russische russischen; lateinisch "
		"lateinische lateinischen; türkisch türkische türkischen; polnisch polnische "
		"polnischen; chinesisch chinesische chinesischen"},
	{DE, WORD_GROUP, 0,
		"rechner computer; auto wagen; schreib schreiben; groß größe; kosten kost teuer; "
		"foto bild; handy smartphone; fehler irrtum; reparier reparieren; erfind erfand "
		"erfunden erfinder; entdeck entdecker; schrieb geschrieben autor; gekocht koch"},
	{DE, WORD_GROUP, 1,
		"vor | hinter; erhöh erhöhen steigern | senk senken verringern; kaufen kauf | "
		"verkaufen verkauf; heiß | kalt; warm | kühl; mehr | weniger; maximum maximal | "
		"minimum minimal; aktivier aktivieren | deaktivier deaktivieren; links | rechts; "
		"öffnen öffn | schließ schließen; groß | klein; lang | kurz; hoch | niedrig; "
		"schnell | langsam; gut | schlecht; neu | alt; hart | weich; erlaubt | verboten; "
		"zusage zusag | absage absag; vorteil vorteile | nachteil nachteile; beginn begin "
		"| end; sommer | winter; sicher | gefährlich; gesund | krank; leicht einfach | "
		"schwer schwierig; hell | dunkel; vergrößer vergrößern | verkleiner verkleinern; "
		"roh | gekocht"},
	/* ---- French ---- */
	{FR, WORD_STOP, 0,
		"le la les l un une des du d ce cet cette ces c se s y que qu est-ce plaît "
		"plait nous svp merci bonjour on alors donc bien suivant suivante "
		"suivants"},
	{FR, WORD_ASK, ASK_NAME, "dis donne donner dire montre montrer liste calcule nomme cite"},
	{FR, WORD_ASK, ASK_EXPLAIN, "explique expliquer décris"},
	{FR, WORD_ROLE, ROLE_OF, "de"},
	{FR, WORD_ROLE, ROLE_ABOUT, "sur"},
	{FR, WORD_ROLE, ROLE_IF, "si"},
	{FR, WORD_ROLE, ROLE_FROM, "depuis"},
	{FR, WORD_ROLE, ROLE_TO, "à au aux vers"},
	{FR, WORD_ROLE, ROLE_BY, "par"},
	{FR, WORD_ROLE, ROLE_FOR, "pour"},
	{FR, WORD_ROLE, ROLE_IN, "en dans chez"},
	{FR, WORD_ROLE, ROLE_WITH, "avec"},
	{FR, WORD_ROLE, ROLE_AS, "comme"},
	{FR, WORD_QUESTION, QUESTION_WHAT, "quel quelle quels quelles quoi"},
	{FR, WORD_QUESTION, QUESTION_WHO, "qui"},
	{FR, WORD_QUESTION, QUESTION_WHEN, "quand"},
	{FR, WORD_QUESTION, QUESTION_WHERE, "où"},
	{FR, WORD_QUESTION, QUESTION_WHY, "pourquoi"},
	{FR, WORD_QUESTION, QUESTION_HOW, "comment"},
	{FR, WORD_QUESTION, QUESTION_COUNT, "combien"},
	{FR, WORD_AUX, AUX_PRESENT,
		"est sont a ont suis es sommes êtes ai as avons avez être avoir"},
	{FR, WORD_AUX, AUX_PAST, "était étaient fut avait avaient été eu"},
	{FR, WORD_AUX, AUX_FUTURE, "sera seront aura auront"},
	{FR, WORD_AUX, AUX_CAN, "peut peux puis peuvent pouvez pourrait pourrais"},
	{FR, WORD_AUX, AUX_SHOULD, "devrait devrais"},
	{FR, WORD_AUX, AUX_MUST, "dois doit faut"},
	{FR, WORD_PERSON, PERSON_I, "je j me moi m"},
	{FR, WORD_PERSON, PERSON_YOU, "tu vous te t toi"},
	{FR, WORD_PERSON, PERSON_MY, "mon ma mes notre nos"},
	{FR, WORD_PERSON, PERSON_YOUR, "ton ta tes votre vos"},
	{FR, WORD_PERSON, PERSON_HE, "il"},
	{FR, WORD_PERSON, PERSON_SHE, "elle"},
	{FR, WORD_PERSON, PERSON_THEY, "ils elles leur leurs"},
	{FR, WORD_JOIN, JOIN_AND, "et"},
	{FR, WORD_JOIN, JOIN_OR, "ou"},
	{FR, WORD_NOT, 0, "pas jamais ni; aucun aucune rien personne; sans; sauf"},
	{FR, WORD_STOP, 0, "ne n"},
	{FR, WORD_NUMBER, 2, "deux"},
	{FR, WORD_NUMBER, 3, "trois"},
	{FR, WORD_NUMBER, 4, "quatre"},
	{FR, WORD_NUMBER, 5, "cinq"},
	{FR, WORD_NUMBER, 6, "six"},
	{FR, WORD_NUMBER, 7, "sept"},
	{FR, WORD_NUMBER, 8, "huit"},
	{FR, WORD_NUMBER, 9, "neuf"},
	{FR, WORD_NUMBER, 10, "dix"},
	{FR, WORD_NUMBER, 12, "douze"},
	{FR, WORD_NUMBER, 20, "vingt"},
	{FR, WORD_NUMBER, 30, "trente"},
	{FR, WORD_NUMBER, 40, "quarante"},
	{FR, WORD_NUMBER, 50, "cinquante"},
	{FR, WORD_NUMBER, 60, "soixante"},
	{FR, WORD_SCALE, 2, "cent cents"},
	{FR, WORD_SCALE, 3, "mille"},
	{FR, WORD_SCALE, 6, "million millions"},
	{FR, WORD_SCALE, 9, "milliard milliards"},
	{FR, WORD_ORDINAL, 1, "premier première premiers premières"},
	{FR, WORD_ORDINAL, 2, "deuxième second"},
	{FR, WORD_ORDINAL, 3, "troisième"},
	{FR, WORD_UNIT, 0,
		"pourcent %; dollar dollars; euro euros; seconde secondes; minute minutes; heure "
		"heures; jour jours; semaine semaines; mois; an ans année années; kilomètre "
		"kilomètres km; mètre mètres; centimètre centimètres cm; pouce pouces; pied "
		"pieds; kilogramme kilogrammes kilo kilos kg; gramme grammes; litre litres; degré "
		"degrés; hier; demain; aujourd; hui; lundi; mardi; mercredi; jeudi; vendredi; "
		"samedi; dimanche; janvier; février; mars; avril; mai; juin; juillet; août; "
		"septembre; octobre; novembre; décembre"},
	{FR, WORD_OPERATOR, '*', "fois ×"},
	{FR, WORD_OPERATOR, '/', "divisé"},
	{FR, WORD_LANGUAGE, 0,
		"anglais; allemand; français; espagnol; italien; portugais; russe; chinois; "
		"japonais; arabe; latin; néerlandais"},
	{FR, WORD_GROUP, 0,
		"écrire écris écrit auteur; traduire traduis traduit; convertir convertis; cuire "
		"cuit; trouve situe; voiture auto; erreur faute; ordinateur pc"},
	{FR, WORD_GROUP, 1,
		"avant | après; augmenter | diminuer réduire; acheter | vendre; chaud | froid; "
		"plus | moins; maximum | minimum; activer | désactiver; ouvrir | fermer; grand "
		"grande | petit petite; long | court; haut | bas; rapide | lent; bon meilleur | "
		"mauvais pire; nouveau | ancien; jeune | vieux; gauche | droite; facile | "
		"difficile; été | hiver; printemps | automne; congeler | décongeler; chat | "
		"chien; avantage avantages | inconvénient inconvénients"},
	/* ---- Spanish, Italian: enough to know them and what they deny ---- */
	{ES, WORD_STOP, 0,
		"el la los las un una unos unas lo se al del por favor este esta ese esa"},
	{ES, WORD_ROLE, ROLE_OF, "de"},
	{ES, WORD_ROLE, ROLE_FROM, "desde"},
	{ES, WORD_ROLE, ROLE_TO, "a hacia hasta"},
	{ES, WORD_ROLE, ROLE_IN, "en"},
	{ES, WORD_ROLE, ROLE_WITH, "con"},
	{ES, WORD_ROLE, ROLE_FOR, "para por"},
	{ES, WORD_QUESTION, QUESTION_WHAT, "qué cuál cuáles que cual"},
	{ES, WORD_QUESTION, QUESTION_WHO, "quién quiénes quien"},
	{ES, WORD_QUESTION, QUESTION_WHEN, "cuándo cuando"},
	{ES, WORD_QUESTION, QUESTION_WHERE, "dónde donde"},
	{ES, WORD_QUESTION, QUESTION_HOW, "cómo como"},
	{ES, WORD_QUESTION, QUESTION_COUNT, "cuánto cuántos cuántas cuánta"},
	{ES, WORD_AUX, AUX_PRESENT, "es son está están hay"},
	{ES, WORD_AUX, AUX_PAST, "era fue fueron eran"},
	{ES, WORD_PERSON, PERSON_MY, "mi mis"},
	{ES, WORD_PERSON, PERSON_YOUR, "tu tus su sus"},
	{ES, WORD_JOIN, JOIN_AND, "y e"},
	{ES, WORD_JOIN, JOIN_OR, "o u"},
	{ES, WORD_NOT, 0, "no nunca jamás ni; sin; ningún ninguno ninguna nada nadie"},
	{IT, WORD_STOP, 0,
		"il lo gli le un uno una del della dei delle nel nella favore questo questa"},
	{IT, WORD_ROLE, ROLE_OF, "di"},
	{IT, WORD_ROLE, ROLE_FROM, "da dal dalla"},
	{IT, WORD_ROLE, ROLE_TO, "a al alla"},
	{IT, WORD_ROLE, ROLE_IN, "in"},
	{IT, WORD_ROLE, ROLE_WITH, "con"},
	{IT, WORD_ROLE, ROLE_FOR, "per"},
	{IT, WORD_QUESTION, QUESTION_WHAT, "cosa quale quali qual che"},
	{IT, WORD_QUESTION, QUESTION_WHO, "chi"},
	{IT, WORD_QUESTION, QUESTION_WHEN, "quando"},
	{IT, WORD_QUESTION, QUESTION_WHERE, "dove"},
	{IT, WORD_QUESTION, QUESTION_WHY, "perché"},
	{IT, WORD_QUESTION, QUESTION_HOW, "come"},
	{IT, WORD_QUESTION, QUESTION_COUNT, "quanto quanti quante quanta"},
	{IT, WORD_AUX, AUX_PRESENT, "è sono"},
	{IT, WORD_AUX, AUX_PAST, "era erano fu"},
	{IT, WORD_PERSON, PERSON_MY, "mio mia miei"},
	{IT, WORD_PERSON, PERSON_YOUR, "tuo tua suo sua"},
	{IT, WORD_JOIN, JOIN_AND, "e ed"},
	{IT, WORD_JOIN, JOIN_OR, "o"},
	{IT, WORD_NOT, 0, "non mai né; senza; nessun nessuno nessuna niente nulla"},
};

const size_t agree_lexicon_n = sizeof(agree_lexicon) / sizeof(agree_lexicon[0]);
