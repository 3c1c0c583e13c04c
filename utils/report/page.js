const box = document.querySelector('dialog');
document.querySelectorAll('.scene img').forEach(image => image.addEventListener('click', () => {
  box.querySelector('img').src = image.src;
  box.querySelector('p').textContent = image.alt;
  box.showModal();
}));
box.addEventListener('click', () => box.close());
