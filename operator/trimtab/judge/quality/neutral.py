"""The probes that are used where `spec.quality.probes` names none: plain texts of many kinds, written for this.

They say how far an engine's numbers have moved, not how good it is at a task; a set of one's own says more.
"""

from __future__ import annotations

from typing import Final

from trimtab.model.quality import Probe

_TEXTS: Final = {
    "bread": (
        "To bake a simple bread, mix flour, water, salt and a little yeast in a bowl until no dry flour is left. Cover "
        "the dough and let it rest overnight in a cool place. In the morning fold it twice, shape it into a round loaf "
        "and bake it in a hot oven until the crust is brown and it sounds hollow when you knock on the bottom."
    ),
    "tides": (
        "The tides rise and fall about twice a day because the Moon pulls the water on the near side of the Earth a "
        "little more strongly than the Earth itself. When the Sun and the Moon stand in one line, their pulls add up "
        "and the tide is higher than usual; when they stand at a right angle, it is lower."
    ),
    "apology": (
        "Dear Ms Keller, thank you for your message of Monday. I am sorry that the second parcel arrived with a broken "
        "lid. A replacement left our warehouse this morning and should reach you within three days. You do not need to "
        "return the damaged one. If anything else is missing, please write to me directly. Kind regards,"
    ),
    "python": (
        "def moving_average(values, width):\n"
        '    """The mean of each run of `width` neighbours."""\n'
        "    if width < 1 or width > len(values):\n"
        '        raise ValueError("width must be between 1 and the number of values")\n'
        "    total = sum(values[:width])\n"
        "    averages = [total / width]\n"
        "    for old, new in zip(values, values[width:]):\n"
        "        total += new - old\n"
        "        averages.append(total / width)\n"
        "    return averages\n"
    ),
    "sql": (
        "SELECT customers.name, COUNT(orders.id) AS number_of_orders, SUM(orders.total) AS spent\n"
        "FROM customers\n"
        "LEFT JOIN orders ON orders.customer_id = customers.id AND orders.created_at >= '2024-01-01'\n"
        "GROUP BY customers.name\n"
        "HAVING COUNT(orders.id) > 3\n"
        "ORDER BY spent DESC\n"
        "LIMIT 20;\n"
    ),
    "json": (
        '{"order": 4711, "customer": {"name": "Ada", "city": "Lyon"}, "lines": [{"item": "lamp", "count": 2, "price": '
        '35.5}, {"item": "cable", "count": 1, "price": 4.0}], "total": 75.0, "paid": true, "delivery": {"method": '
        '"post", "days": 3}}'
    ),
    "arithmetic": (
        "A train leaves at 8:15 and travels 180 kilometres at 90 kilometres per hour. The journey takes 180 / 90 = 2 "
        "hours, so it arrives at 10:15. On the way back it is slower and needs 3 hours, so its speed is 180 / 3 = 60 "
        "kilometres per hour. Together it has travelled 360 kilometres in 5 hours, which is 72 kilometres per hour."
    ),
    "dialogue": (
        "Customer: My screen stays black when I start the computer.\n"
        "Support: Do you hear the fan, and is a light on at the front?\n"
        "Customer: Yes, both.\n"
        "Support: Then it has power. Please check whether the cable of the monitor sits firmly at both ends.\n"
        "Customer: It was loose. Now I can see the picture, thank you!\n"
        "Support:"
    ),
    "photosynthesis": (
        "Question: Why do plants need light? Answer: Plants use the energy of light to turn water and carbon dioxide "
        "into sugar and oxygen. This process is called photosynthesis and takes place in the chloroplasts, which hold "
        "the green pigment chlorophyll. Without light a plant lives on its reserves until they are used up."
    ),
    "contract": (
        "The tenant pays the rent in advance, no later than the third working day of each month, to the account named "
        "by the landlord. The landlord may raise the rent once a year, with a notice of two months in writing. Either "
        "party may end this agreement with a notice of three months to the end of a calendar month."
    ),
    "german": (
        "Am Morgen lag Nebel über dem Fluss, und die Brücke war kaum zu sehen. Die Fischer hatten ihre Boote schon ins "
        "Wasser geschoben und warteten auf den Wind. Als die Sonne höher stieg, wurde der Nebel dünner, und vom "
        "anderen Ufer hörte man die Glocken der kleinen Kirche."
    ),
    "french": (
        "La bibliothèque ouvre à neuf heures et ferme à dix-huit heures, sauf le dimanche. Pour emprunter un livre, il "
        "suffit de présenter sa carte à l'accueil. On peut garder un livre pendant trois semaines, puis prolonger le "
        "prêt une fois si personne d'autre ne l'a réservé."
    ),
    "spanish": (
        "El mercado del pueblo se celebra los sábados por la mañana. Los agricultores venden tomates, naranjas, queso "
        "y pan recién hecho. Mi abuela siempre llega temprano, porque dice que las mejores frutas desaparecen antes de "
        "las nueve, y después toma un café con sus amigas en la plaza."
    ),
    "list": (
        "Packing list for a weekend in the mountains:\n"
        "1. Warm jacket and rain trousers\n"
        "2. Hiking boots and two pairs of socks\n"
        "3. Water bottle, bread, cheese and apples\n"
        "4. Map, compass and a charged telephone\n"
        "5. Torch with spare batteries\n"
        "6. Small first aid kit\n"
    ),
    "history": (
        "The invention of movable type in Europe in the fifteenth century made books cheaper within a few decades. "
        "Before, a scribe needed months to copy a single volume; afterwards a workshop printed hundreds of copies in "
        "the same time. Ideas travelled faster, spelling became more uniform, and many more people learned to read."
    ),
    "story": (
        "The old clockmaker locked his shop, put the key under the third flower pot, and walked down to the harbour. "
        "Every evening he sat on the same bench and counted the ships. Tonight there was one too many. It lay dark and "
        "silent between two fishing boats, and on its stern somebody had painted his own name."
    ),
    "shell": (
        "#!/bin/sh\n"
        "set -eu\n"
        "# Keeps the newest seven backups and removes the others.\n"
        'cd "${BACKUPS:-/var/backups/app}"\n'
        "ls -1t backup-*.tar.gz | tail -n +8 | while read -r old; do\n"
        '    echo "removing $old"\n'
        '    rm -- "$old"\n'
        "done\n"
    ),
    "medicine": (
        "A fever is a body temperature above the normal range, usually caused by an infection. It helps the body to "
        "fight germs and often passes without treatment. Drink enough, rest, and see a doctor when the fever is very "
        "high, lasts longer than three days, or comes with a stiff neck or difficulty in breathing."
    ),
    "weather": (
        "Tomorrow begins cloudy in the north with some rain, while the south stays dry and sunny. In the afternoon the "
        "wind turns to the west and becomes stronger, with gusts of up to sixty kilometres per hour on the coast. "
        "Temperatures reach 12 degrees by the sea and 19 degrees inland. On Sunday it will be colder."
    ),
    "translation": (
        "English: Where is the nearest station? French: Où est la gare la plus proche? English: The train is late. "
        "French: Le train est en retard. English: I would like a ticket to Paris, please. French: Je voudrais un "
        "billet pour Paris, s'il vous plaît. English: Thank you very much. French:"
    ),
    "javascript": (
        "export async function fetchJson(url, retries = 3) {\n"
        "  for (let attempt = 1; attempt <= retries; attempt += 1) {\n"
        "    const response = await fetch(url);\n"
        "    if (response.ok) {\n"
        "      return response.json();\n"
        "    }\n"
        "    await new Promise((resolve) => setTimeout(resolve, 100 * attempt));\n"
        "  }\n"
        "  throw new Error(`no answer from ${url}`);\n"
        "}\n"
    ),
    "summary": (
        "Text: The city council decided on Tuesday to close the main street to cars on weekends, starting in May. Shop "
        "owners are divided: some expect more visitors on foot, others fear for customers who come from outside. The "
        "trial ends in October, when the council will look at the figures. Summary: The main street will be closed"
    ),
    "physics": (
        "An object that falls freely near the surface of the Earth gains about 9.8 metres per second of speed in every "
        "second. After one second it falls at 9.8 metres per second, after two at 19.6, after three at 29.4. Air slows "
        "light things down, which is why a feather falls more slowly than a stone; in a vacuum both fall alike."
    ),
    "instructions": (
        "You are a helpful assistant who answers briefly. User: Name three rivers that flow through Germany. "
        "Assistant: The Rhine, the Elbe and the Danube. User: Which of them ends in the Black Sea? Assistant: The "
        "Danube. User: And where do the other two end? Assistant:"
    ),
    "economy": (
        "When the price of a good rises, people usually buy less of it, and producers are willing to make more. The "
        "price at which both amounts are the same is called the equilibrium. A bad harvest moves it: less wheat is on "
        "offer at every price, so wheat becomes more expensive until fewer people want to buy it."
    ),
    "yaml": (
        "apiVersion: v1\n"
        "kind: Service\n"
        "metadata:\n"
        "  name: web\n"
        "  labels:\n"
        "    app: web\n"
        "spec:\n"
        "  selector:\n"
        "    app: web\n"
        "  ports:\n"
        "    - name: http\n"
        "      port: 80\n"
        "      targetPort: 8080\n"
    ),
    "music": (
        "A string quartet consists of two violins, a viola and a cello. The first violin often carries the melody, but "
        "in the best works the four voices speak with each other as equals. Composers liked the form because it hides "
        "nothing: every wrong note, every weak idea can be heard at once."
    ),
    "geography": (
        "The highest mountain of Africa is Kilimanjaro in Tanzania. Its summit is 5,895 metres above the sea. On the "
        "way up a climber passes through farmland, rain forest, heath, a stony desert and finally ice, although the "
        "equator is only about three hundred kilometres away."
    ),
    "review": (
        "I bought this kettle two months ago and use it every day. It boils a litre of water in about three minutes, "
        "is easy to clean and looks good on the table. The only thing that I do not like is the lid, which opens too "
        "far. For this price I would buy it again. Four stars out of five."
    ),
    "logic": (
        "All the boxes on the upper shelf are red. No red box is empty. The box with the letters stands on the upper "
        "shelf. Therefore the box with the letters is red, and it is not empty. The box with the coins is empty, so it "
        "is not red, and therefore it does not stand on the upper shelf."
    ),
    "log": (
        "2024-03-05T10:15:01Z INFO server started on port 8080\n"
        "2024-03-05T10:15:07Z INFO GET /health 200 1 ms\n"
        "2024-03-05T10:15:12Z WARN slow query: 812 ms on table orders\n"
        "2024-03-05T10:15:13Z ERROR connection to the database was lost, trying again in 1 s\n"
        "2024-03-05T10:15:14Z INFO connection to the database was restored\n"
    ),
    "proverb": (
        "There are proverbs about patience in most languages. One says that a watched pot never boils, another that "
        "good things come to those who wait, a third that Rome was not built in a day. They all advise the same: to go "
        "on working calmly, and not to look for the result before its time has come."
    ),
}

NEUTRAL: Final = tuple(Probe(name, text) for name, text in sorted(_TEXTS.items()))
