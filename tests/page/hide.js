// Hides the page, or shows it again, as far as it can see
(hidden) => {
	Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
	document.dispatchEvent(new Event("visibilitychange"));
}
