/** Where the page begins: who serves it decides what it is. */

import { whoServes } from "./served.ts";

const page = document.querySelector("#page");
const served = await whoServes(location.origin);
if (page !== null) page.textContent = `meshllm, from a ${served}`;
