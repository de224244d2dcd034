import { render } from "preact";
import "./style.css";
import { App } from "./views/app.js";

const place = document.getElementById("app");
if (place !== null) render(<App />, place);
